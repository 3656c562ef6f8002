"""What a job's model is made of: a checkpoint, the average of several, or one with noise on its
weights.
"""

import functools
from collections.abc import Sequence

from amuro_jax import keys, variants
from amuro_jax.averaged import averaged
from amuro_jax.models.derived import with_noise
from amuro_jax.opened import Checkpoint, open_checkpoint
from amuro_jax.study.plan import Job
from amuro_jax.train.run import TrainJob


@functools.lru_cache(maxsize=8)  # several jobs of one checkpoint ask for the same; no parameters
def _opened(names: tuple[str, ...]) -> tuple[Checkpoint, ...]:
    return tuple(map(open_checkpoint, names))


def start_of(opened: Checkpoint, job: Job) -> Checkpoint:
    """What a job's model is, or is tuned from: its checkpoint, or the average that ends there.

    Raises:
        CheckpointError: another checkpoint of the average cannot be opened, or has another shape.
    """
    if not job.averaged_with:
        return opened
    return averaged((*_opened(job.averaged_with), opened))


def identity_of(start: Checkpoint, job: Job, trainings: Sequence[TrainJob] = ()) -> str:
    """Identity of a job's model: of a base model that of its checkpoint, of the average, or of them
    with noise; of a fine-tuned one that of its training, or of the average of several.
    """
    if trainings:
        identities = [one.key() for one in trainings]
        return keys.average_key(identities) if len(identities) > 1 else identities[0]
    noise = variants.noise_of(job.model.variant)
    return start.identity if noise is None else keys.noise_key(start.identity, noise)


def params_of(params: dict, job: Job) -> dict:
    """Parameters of a base model: those that it starts from, with its noise where it has some."""
    noise = variants.noise_of(job.model.variant)
    return params if noise is None else with_noise(params, noise.sigma, noise.seed)
