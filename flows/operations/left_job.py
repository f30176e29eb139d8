"""Tells the Ray job of a stage that its flow was found dead, so that it does not wait long for another to watch it."""

import logging

from infinity import storage
from infinity.jobs.submission.files import FOLDER, JobFiles
from infra.records import FlowRunRecord

logger = logging.getLogger(__name__)


def leave_job(record: FlowRunRecord) -> None:
    """Tell the job that the run of this record watched last that nobody does any more; without such a job do nothing.

    Args:
        record: Record of a run whose process is gone.
    """
    if not record.folder:
        return
    try:
        JobFiles(storage.join(record.folder, FOLDER)).leave(record.flow_run)
    except storage.StorageError as error:
        logger.warning("%s: its job ends by itself, if there is one (%s)", record.folder, error)
