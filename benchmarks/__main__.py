"""All benchmarks, one after the other."""

from benchmarks import classify, footprint, ingest

footprint.main()
classify.main()
ingest.main()
