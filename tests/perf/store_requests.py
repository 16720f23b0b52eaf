"""How many requests a store in S3 is asked by a writer and by a reader: counted on moto's server.

PYTHONPATH=kernels:harness:tests/support python tests/perf/store_requests.py --runs 600
"""

import argparse
import os
import tempfile
from collections import Counter
from pathlib import Path

import boto3
import s3_server
from saved_runs import save_finished
from synthetic_runs import blocks

from lstm_harness.store import remote, run_folder


def counted(server: s3_server.Server) -> str:
    """The requests since the last time, by method; a GET of the bucket alone lists it."""
    found = Counter(
        "LIST" if method == "GET" and path.strip("/") == s3_server.BUCKET else method
        for method, path in server.requests
    )
    server.requests.clear()
    return ", ".join(f"{count:,} {name}" for name, count in sorted(found.items())) or "none"


def main() -> None:
    """Publish runs, read them three times, and print what was asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=600)
    options = parser.parse_args()
    server = s3_server.Server()
    server.start()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= s3_server.ENVIRONMENT | {
            "AWS_ENDPOINT_URL": server.url,
            "XDG_CACHE_HOME": scratch,
        }
        boto3.client("s3").create_bucket(Bucket=s3_server.BUCKET)
        store = f"s3://{s3_server.BUCKET}/store"
        server.requests.clear()
        for number in range(options.runs):
            run = Path(scratch) / "runs" / f"r{number:05}"
            save_finished(run, blocks("naive", range(number + 1000, number + 1003)), id=run.name)
            (run / run_folder.REPORT).write_text("a page")
            url = f"{store}/{run.name}"
            remote.refuse_taken(url)
            before = counted(server)
            remote.publish(run, url)
            publishing = counted(server)
            if number in (0, options.runs - 2):
                print(f"run {number + 1}, before it is measured: {before}")
                print(f"run {number + 1}, to publish it: {publishing}", flush=True)
            if number == options.runs - 2:
                for what in ("a reader's first look", "and again"):
                    remote.fetched(store)
                    print(f"{what}, {number + 1:,} runs: {counted(server)}", flush=True)
        remote.fetched(store)
        print(f"after one more: {counted(server)}")
    server.stop()


if __name__ == "__main__":
    main()
