"""All benchmarks, one after the other."""

from benchmarks import classify, footprint, ingest, votes

votes.main()
footprint.main()
classify.main()
ingest.main()
