"""A Dask cluster in processes of this machine that nobody but its own client can reach."""

import logging
from pathlib import Path

import distributed
from distributed.security import Security

_QUIET = logging.CRITICAL


class _Unlisted:
    """Without the web server that Dask gives to every node, which has neither keys nor encryption."""

    def start_http_server(self, *arguments, **options) -> None:
        """Starts nothing."""


class Scheduler(_Unlisted, distributed.Scheduler):
    """Dask's, without a web server."""


class Worker(_Unlisted, distributed.Worker):
    """Dask's, without a web server; the processes of the workers import it from here."""


def start(workers: int, threads: int, folder: Path) -> distributed.SpecCluster:
    """Starts so many workers with so many threads each.

    Whoever reaches a node's port can have it run anything, so that all of them ask each other for a certificate
    whose key is made here and goes to the workers through the pipes that start them. It is in a file, in a folder of
    this user alone, only while OpenSSL reads it.

    Args:
        folder: for the files of all nodes; Dask imports modules from it, so nobody else may write there.

    Raises:
        ImportError: where `cryptography` is missing.
    """
    security = Security.temporary()
    node = {"host": "127.0.0.1", "protocol": "tls://", "security": security, "dashboard": False,
            "local_directory": str(folder)}
    worker = {"cls": distributed.Nanny, "options": node | {
        "worker_class": Worker, "nthreads": threads, "memory_limit": None, "silence_logs": _QUIET}}
    return distributed.SpecCluster(workers=dict.fromkeys(range(workers), worker),
                                   scheduler={"cls": Scheduler, "options": node}, security=security,
                                   silence_logs=_QUIET)
