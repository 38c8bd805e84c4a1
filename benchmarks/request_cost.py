"""What a request to S3 costs the client, in milliseconds of a core: python benchmarks/request_cost.py

Objects of 3,000 bytes, 32 requests at a time, from a store on this machine that answers after 30 ms; by s3fs, and as
photos are read. The time is the whole process's, whatever thread it was spent in.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from fault_store import FaultStore, client, environment, moto

SIZE = 3000
READ = f"""
import sys, time
from concurrent.futures import ThreadPoolExecutor
from gendercls.sources.reach import READERS, asked
from gendercls.sources.store import RemotePhoto

def by_s3fs(url):
    return bytes(asked(url, "cat_file", start=0, end={SIZE} + 1))

def as_photos(url):
    return RemotePhoto(url, url, {SIZE}).read()

urls = [f"s3://bucket/{{number}}" for number in range(int(sys.argv[1]))]
for read in (by_s3fs, as_photos):
    read(urls[0])
    began = time.process_time()
    with ThreadPoolExecutor(READERS) as pool:
        assert {{len(data) for data in pool.map(read, urls)}} == {{{SIZE}}}
    print(f"{{read.__name__}}: {{1000 * (time.process_time() - began) / len(urls):.2f}} ms", flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="objects (default 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="the first of which also fills the store's cache")
    options = parser.parse_args()
    with moto() as port:
        s3 = client(f"http://127.0.0.1:{port}")
        s3.create_bucket(Bucket="bucket")
        for number in range(options.count):
            s3.put_object(Bucket="bucket", Key=str(number), Body=bytes(SIZE))
        with FaultStore(port, latency=0.03, keeps=True) as store:
            for number in range(options.rounds):
                print(f"round {number + 1}", flush=True)
                command = [sys.executable, "-c", READ, str(options.count)]
                subprocess.run(command, env=environment(store.url), check=True)


if __name__ == "__main__":
    main()
