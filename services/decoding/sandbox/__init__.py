"""Run the decoders in child processes without rights: limits on memory and time, no files, no sockets."""
