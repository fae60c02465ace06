"""Processes of one machine: supervision, private Redis servers, threads and fair sharing."""
