"""One run of hnswlib or faiss for the program beside this file, which passes a job and reads an answer.

Rates are of whole batches inside the library, so that they carry none of Python's time; latencies
are of single calls and do.
"""

import importlib.metadata
import json
import os
import pathlib
import sys
import time

M = 16
EF_CONSTRUCTION = 200


def resident():
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


class Hnswlib:
    package = "hnswlib"

    def __init__(self, job, dim):
        import hnswlib

        self.module = hnswlib
        self.space = "l2" if job["distance"] == "euclidean" else "ip"
        self.dim = dim
        self.path = os.path.join(job["folder"], "peer.hnswlib")

    def build(self, base, threads):
        self.index = self.module.Index(space=self.space, dim=self.dim)
        self.index.init_index(
            max_elements=len(base), ef_construction=EF_CONSTRUCTION, M=M, random_seed=7
        )
        self.index.add_items(base, num_threads=threads)

    def effort(self, ef):
        self.index.set_ef(ef)

    def search(self, queries, k, threads):
        return self.index.knn_query(queries, k=k, num_threads=threads)[0]

    def save(self):
        self.index.save_index(self.path)

    def reopen(self):
        self.index = self.module.Index(space=self.space, dim=self.dim)
        self.index.load_index(self.path)


class Faiss:
    package = "faiss-cpu"

    def __init__(self, job, dim):
        import faiss

        self.module = faiss
        euclidean = job["distance"] == "euclidean"
        self.metric = faiss.METRIC_L2 if euclidean else faiss.METRIC_INNER_PRODUCT
        self.codes = job["peer"] == "faiss-sq8"
        self.dim = dim
        self.path = os.path.join(job["folder"], "peer.faiss")

    def build(self, base, threads):
        faiss = self.module
        if self.codes:
            kind = faiss.ScalarQuantizer.QT_8bit
            self.index = faiss.IndexHNSWSQ(self.dim, kind, M, self.metric)
        else:
            self.index = faiss.IndexHNSWFlat(self.dim, M, self.metric)
        self.index.hnsw.efConstruction = EF_CONSTRUCTION
        faiss.omp_set_num_threads(threads)
        self.index.train(base)
        self.index.add(base)

    def effort(self, ef):
        self.index.hnsw.efSearch = ef

    def search(self, queries, k, threads):
        self.module.omp_set_num_threads(threads)
        return self.index.search(queries, k)[1]

    def save(self):
        self.module.write_index(self.index, self.path)

    def reopen(self):
        self.index = self.module.read_index(self.path)


def rate(peer, queries, k, threads, seconds):
    searches, started = 0, time.perf_counter()
    while True:
        peer.search(queries, k, threads)
        searches += len(queries)
        elapsed = time.perf_counter() - started
        if elapsed >= seconds:
            return searches / elapsed


def point(peer, queries, job, ef):
    k = job["k"]
    peer.effort(ef)
    hits = peer.search(queries, k, 1).tolist()
    latencies, started = [], time.perf_counter()
    while time.perf_counter() - started < job["seconds"]:
        for row in range(len(queries)):
            before = time.perf_counter()
            peer.search(queries[row : row + 1], k, 1)
            latencies.append(time.perf_counter() - before)
    latencies.sort()
    # Sets of few queries are too small a batch to measure.
    batch = queries.repeat(-(-1000 // len(queries)), axis=0)
    return {
        "effort": ef,
        "hits": [[row for row in rows if row >= 0] for rows in hits],
        "qps": [rate(peer, batch, k, threads, job["seconds"]) for threads in (1, job["threads"])],
        "p50_us": latencies[(len(latencies) - 1) // 2] * 1e6,
        "p99_us": latencies[int((len(latencies) - 1) * 0.99)] * 1e6,
    }


def run(job):
    import numpy

    folder = pathlib.Path(job["folder"])
    base, queries = numpy.load(folder / "base.npy"), numpy.load(folder / "query.npy")
    peer = (Hnswlib if job["peer"] == "hnswlib" else Faiss)(job, base.shape[1])
    before, started = resident(), time.perf_counter()
    peer.build(base, job["threads"])
    build_seconds = time.perf_counter() - started
    size = resident() - before

    peer.effort(job["efforts"][-1])
    own = [int(rows[0]) for rows in peer.search(base[job["own"]], job["k"], 1)]
    points = [point(peer, queries, job, ef) for ef in job["efforts"]]

    started = time.perf_counter()
    peer.save()
    with open(peer.path, "rb+") as file:
        os.fsync(file.fileno())
    save_seconds = time.perf_counter() - started
    peer.index = None
    started = time.perf_counter()
    peer.reopen()
    peer.effort(job["efforts"][-1])
    first = peer.search(base[job["own"][:1]], job["k"], 1)
    reopen_seconds = time.perf_counter() - started
    assert int(first[0][0]) == own[0], "another nearest row after reopening"
    return {
        "version": importlib.metadata.version(peer.package),
        "build_seconds": build_seconds,
        "bytes": float(size),
        "bytes_by": "rss",
        "save_seconds": save_seconds,
        "reopen_seconds": reopen_seconds,
        "own": own,
        "points": points,
    }


def main():
    path = pathlib.Path(sys.argv[1])
    job = json.loads(path.read_text())
    try:
        answer = run(job)
    except ImportError as missing:
        answer = {"refused": f"{missing}: pip install -r requirements.txt, or --python"}
    path.with_name("answer.json").write_text(json.dumps(answer))


main()
