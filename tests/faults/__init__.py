"""Faults made on purpose: processes killed, disks filled, connections cut; `make test-faults` runs these."""
