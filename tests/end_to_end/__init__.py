"""The promises, seen from outside: real processes, real pictures, HTTP and the command line."""
