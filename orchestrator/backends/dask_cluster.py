"""Jobs on a Dask cluster: a running one, or one on this machine that is started for the batch."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import secrets
import time
from pathlib import Path
from typing import Any

import distributed

from orchestrator.backends import Tls
from orchestrator.backends.dask_job import DaskSpec, close_idle, stop_batch, train_job
from orchestrator.jobs import Job, Outcome, failed, one_line
from orchestrator.run_folder import RunFolder
from shared.errors import ConfigError, TrainerError

_dask: Any = distributed  # its types are partial
_CONNECT = 15.0  # seconds to reach the scheduler and its first worker
_COUNT_SECONDS = 2.0  # between counts of the workers, which may come and go


_LOST = (Exception, asyncio.CancelledError)  # whatever a client raises whose scheduler is gone: it differs by call


class LostSchedulerError(TrainerError):
    """The scheduler is gone and has not come back."""


class DaskBackend:
    """Sends each job as JSON to a worker of the cluster, which trains and publishes it."""

    def __init__(self, spec: DaskSpec, scheduler: str | None, workers: int, tls: Tls | None) -> None:
        """Connect to `scheduler`, or start a cluster of `workers` processes here. Raises ConfigError."""
        for name in ("distributed", "distributed.client"):  # a lost scheduler is reported in a line of our own
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._spec = spec.model_copy(update={"batch": secrets.token_hex(8)})
        self._where = scheduler or "this machine"
        self._cluster: Any = None
        try:
            if scheduler is None:
                self._cluster = _dask.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
            security = None if tls is None else _security(tls)
            address = self._cluster or scheduler
            self._client: Any = _dask.Client(address, security=security, timeout=_CONNECT, set_as_default=False)
            self._client.wait_for_workers(1, timeout=_CONNECT)
        except (OSError, TimeoutError, ValueError, RuntimeError) as error:
            raise ConfigError(f"--scheduler {self._where}: no scheduler with a worker: {one_line(error)}") from error
        self._jobs: dict[str, Job] = {}
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._slots = 0
        self._counted = float("-inf")

    @property
    def slots(self) -> int:
        """One job for each thread of the cluster, and one waiting at each worker so that none idles."""
        if time.monotonic() - self._counted > _COUNT_SECONDS:
            self._counted = time.monotonic()
            with contextlib.suppress(*_LOST):  # reported when a job is sent
                threads = self._client.nthreads()
                self._slots = sum(threads.values()) + len(threads)
        return self._slots

    def submit(self, job: Job) -> None:
        RunFolder(Path(self._spec.runs)).record("started", {"user": job.user, "modality": job.modality})
        spec = self._spec.model_copy(update={"job": job}).model_dump_json()
        key = f"{job.bundle_name}-{secrets.token_hex(4)}"
        try:
            future = self._client.submit(train_job, spec, key=key, pure=False)
        except _LOST as error:
            if self._client.status == "running":
                raise
            raise self._lost() from error
        self._jobs[key] = job
        future.add_done_callback(self._ended.put)

    def wait(self, seconds: float) -> Outcome | None:
        try:
            future = self._ended.get(timeout=seconds)
        except queue.Empty:
            if self._client.status == "closed":  # nothing that was sent will ever end
                raise self._lost() from None
            return None
        job = self._jobs.pop(future.key)
        try:
            return Outcome.model_validate_json(future.result(timeout=_CONNECT))
        except (Exception, asyncio.CancelledError) as error:  # whatever the cluster or the network raises
            reason = f"lost by the cluster: {type(error).__name__}: {error}"
            return failed(job, "crashed", reason, transient=True)
        finally:
            future.release()

    def _lost(self) -> LostSchedulerError:
        return LostSchedulerError(f"the scheduler at {self._where} is gone; start it, then give the same command again")

    def cancel(self) -> None:
        self._on_all_workers(stop_batch, self._spec.batch)

    def close(self) -> None:
        if self._jobs:
            self.cancel()
        self._on_all_workers(close_idle)
        with contextlib.suppress(*_LOST):
            self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def _on_all_workers(self, function: object, *arguments: str) -> None:
        if self._client.status == "running":
            with contextlib.suppress(*_LOST):
                self._client.run(function, *arguments, on_error="ignore")


def _security(tls: Tls) -> Any:
    return _dask.Security(
        require_encryption=True,
        tls_ca_file=str(tls.ca),
        tls_client_cert=str(tls.cert),
        tls_client_key=str(tls.key),
    )
