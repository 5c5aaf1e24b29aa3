"""Where a process stands, by its flags and what a cluster tells it."""

import pytest

from ssl_jax.cli import cluster
from ssl_jax.cli.cluster import Place
from ssl_jax.errors import UserError

SLURM = {
    "SLURM_JOB_ID": "70001",
    "SLURM_STEP_NODELIST": "node[003-004,009],gpu7",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "CUDA_VISIBLE_DEVICES": "0,1,2,3",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "CUDA_VISIBLE_DEVICES": "0,1",
}
JOBSET = {
    "JOBSET_NAME": "byol",
    "REPLICATED_JOB_NAME": "workers",
    "JOB_COMPLETION_INDEX": "3",
}


def test_flags_alone():
    assert cluster.place({}) is None
    assert cluster.place({}, "10.0.0.1:1234", 2, 1) == Place("10.0.0.1:1234", 2, 1)
    assert cluster.place(SLURM, "", 1) is None


@pytest.mark.parametrize(
    "given, said",
    [
        (("h:1", None, None), "needs --num_processes and --process_id as well"),
        (("", 2, 0), "--num_processes=2 --process_id=0 needs --coordinator as well"),
        (("h", 2, 0), "--coordinator=h must be process 0's host and a port"),
        (("h:1", 2, 2), "--process_id=2 must be from 0 to 1"),
        (("h:1", 0, 0), "--num_processes=0 must be at least 1"),
    ],
)
def test_what_does_not_suffice_is_said(given, said):
    with pytest.raises(UserError) as error:
        cluster.place({}, *given)
    assert said in str(error.value)


def test_slurm():
    found = cluster.place(SLURM)
    assert found == Place(f"node003:{61440 + 70001 % 4096}", 8, 5, [1])
    per_node = SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1(x8)", "SLURM_LOCALID": "0"}
    assert cluster.place(per_node).gpus is None  # all of the node
    two = SLURM | {"SLURM_STEP_TASKS_PER_NODE": "2(x4)"}
    assert cluster.place(two).gpus == [2, 3]
    bound = SLURM | {"SLURM_GPUS_PER_TASK": "1", "CUDA_VISIBLE_DEVICES": "0"}
    assert cluster.place(bound).gpus is None
    one_node = SLURM | {"SLURM_STEP_NODELIST": "login-2"}
    assert cluster.place(one_node).coordinator.startswith("login-2:")


def test_one_task_of_slurm_is_alone():
    """A job of one task, and a batch script or a shell in a job of several."""
    one = SLURM | {"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"}
    assert cluster.place(one) is None
    assert cluster.place(SLURM | {"SLURM_STEP_NUM_TASKS": "1"}) is None
    batch = {k: v for k, v in SLURM.items() if not k.startswith("SLURM_STEP")}
    assert cluster.place(batch) is None


def test_open_mpi():
    uri = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911"}
    port = 61440 + 1531576320 // 4096 % 4096
    assert cluster.place(OPEN_MPI | uri) == Place(f"10.96.0.1:{port}", 2, 1)
    assert cluster.place(OPEN_MPI, "10.96.0.1:99") == Place("10.96.0.1:99", 2, 1)
    with pytest.raises(UserError, match="needs --coordinator as well"):
        cluster.place(OPEN_MPI)


def test_a_jobset_s_pod_is_told_how_many_there_are():
    """A pod of an indexed Job alone may be a run of its own."""
    found = cluster.place(JOBSET, "", 4)
    assert found == Place("byol-workers-0-0.byol:1234", 4, 3)
    with pytest.raises(UserError, match="needs --num_processes as well"):
        cluster.place(JOBSET)
    assert cluster.place({"JOB_COMPLETION_INDEX": "3"}) is None
