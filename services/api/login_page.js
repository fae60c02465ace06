// The token of a login link is in the fragment of the URL, which browsers do not send and servers do not log.
async function openSession(credential) {
  const answer = await fetch("v1/session", { method: "POST", headers: { Authorization: `Bearer ${credential}` } });
  if (answer.ok) {
    location.replace("./");
  } else {
    const problem = await answer.json();
    document.getElementById("message").textContent = problem.detail;
  }
}

const token = location.hash.slice(1);
if (token) {
  history.replaceState(null, "", location.pathname);
  openSession(token);
}
document.getElementById("login").addEventListener("submit", (event) => {
  event.preventDefault();
  openSession(document.getElementById("key").value.trim());
});
