"""A run as jobs of a cluster's scheduler: for Slurm, and for Kubernetes.

Three jobs follow one another: one node makes the data, all nodes train, one node judges. Each is the command that a
user would type, on one directory that all nodes see; each goes on where it was when it is started again.
"""

from megalith.submission.job_files import Submission, write_jobs
from megalith.submission.walk import Walk

__all__ = ["Submission", "Walk", "write_jobs"]
