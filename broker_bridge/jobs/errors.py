"""What can be wrong with what is asked of a job or of an execution. Nothing was changed."""

from broker_bridge.jobs.execution import Execution, JobStatus


class JobError(Exception):
    """Something was asked of jobs that cannot be done."""


class InvalidJob(JobError):
    """A value that makes no sense. The message names the field and its bound."""


class JobNotFound(JobError):
    """There is no job of that id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id}")


class JobExists(JobError):
    """There is a job of that id already, perhaps one that is being deleted."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} exists already")


class InvalidJobState(JobError):
    """The job is in a state in which this cannot be done to it."""

    def __init__(self, job_id: str, status: JobStatus, wanted: str) -> None:
        """`wanted`: what was to be done to it."""
        super().__init__(f"job {job_id} is {status} and cannot be {wanted}")


class TooManyJobs(JobError):
    """More of something than may be."""


class ExecutionNotFound(JobError):
    """The thing has no execution of that job, or none of that number."""

    def __init__(self, job_id: str, thing: str, number: int | None) -> None:
        which = "execution" if number is None else f"execution {number}"
        super().__init__(f"thing {thing} has no {which} of job {job_id}")


class ExecutionEnded(JobError):
    """A device asked about an execution that has ended (AWS: TerminalStateReached)."""

    def __init__(self, execution: Execution) -> None:
        """`execution` as it is."""
        super().__init__(f"the execution of job {execution.job_id} has ended: it is {execution.status}")
        self.execution = execution


class InvalidTransition(JobError):
    """The execution cannot go to that state from the one that it is in."""

    def __init__(self, execution: Execution, wanted: str) -> None:
        """`execution` as it is; `wanted`: what was to become of it."""
        super().__init__(f"an execution that is {execution.status} cannot become {wanted}")
        self.execution = execution


class VersionMismatch(JobError):
    """The execution is not at the version that the caller expected: somebody else changed it."""

    def __init__(self, execution: Execution, expected: int) -> None:
        """`execution` as it is."""
        super().__init__(f"the execution is at version {execution.version}, not at {expected}")
        self.execution = execution
        self.expected = expected
