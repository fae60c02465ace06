"""Print a decision with its shares and neighbours."""

from pathlib import Path

from rich.table import Table

from visual_memory.schemas.classify_options import MAX_TIMES_K, ClassifyOptions
from visual_memory.schemas.decision import Decision, Rerank
from visual_memory.services.cli.terminal_output import console


def print_decision(name: Path | str, decision: Decision, options: ClassifyOptions) -> None:
    """Print a decision, the labels that got votes, and the neighbours that cast them.

    Args:
        name: the picture's file, or the id of a stored decision.
        decision: it.
        options: the options that applied.
    """
    label = f"no label: {decision.reason}" if decision.label is None else decision.label
    shares = ", ".join(f"{each.label} {each.share:.0%}" for each in decision.shares[:5])
    votes = f"  ({shares}; {decision.voters} voted)" * bool(decision.voters)
    console.print(f"{name}: {label}{votes}", markup=False)
    if decision.novelty is not None and decision.novelty.quantile is not None:
        further = f"further than {decision.novelty.quantile:.1%} of the memory's own images"
        console.print(f"  mean distance to its neighbours {decision.novelty.distance:.4f}: {further}", markup=False)
    if decision.prediction_set is not None:
        among = ", ".join(decision.prediction_set) + " (all that got a vote: the memory cannot tell more)" * (
            decision.set_share == 0
        )
        console.print(
            f"  if it is like the memory's images, {options.coverage:.1%} sure to be one of: {among}",
            markup=False,
        )
    if decision.truncated:
        console.print(
            f"  only {MAX_TIMES_K * options.k} images were examined: too many are equally near, copies of each other,"
            " or excluded by pruning; which of them voted may depend on chance",
            markup=False,
        )
    if decision.rerank is not None:
        console.print(f"  {_reranked(decision.rerank)}", markup=False, highlight=False)
    if decision.neighbours:
        console.print(_neighbours(decision))


def _neighbours(decision: Decision) -> Table:
    table = Table("rank", "similarity", "labels", "reliability", "weight", "share", "image", box=None, padding=(0, 2))
    for each in decision.neighbours:
        table.add_row(
            str(each.rank),
            f"{each.similarity:.4f}",
            ", ".join(each.labels),
            f"{each.reliability:.2f}",
            f"{each.weight:.4f}",
            f"{each.share:.1%}",
            each.image_id,
        )
    return table


def _reranked(result: Rerank) -> str:
    if result.fallback is not None:
        return f"not re-ranked: {result.fallback}"
    return f"re-ranked by {result.model}{' (cached)' if result.cached else ''}; the vote was for {result.voted}"
