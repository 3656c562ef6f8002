"""The blocks of fields, one class per verb and per part that verbs share, and the names in them."""

import dataclasses
import enum


class ProtocolName(enum.StrEnum):
    """`strict` does what the study meant; `paper` reproduces its quirks (docs/protocols.md)."""

    STRICT = "strict"
    PAPER = "paper"


class Method(enum.StrEnum):
    """How a label is read off a model (arXiv 2408.06663, section 3.4)."""

    TOKEN_PROB = "token_prob"  # the most likely candidate
    FREE = "free"  # greedy text in which a label is looked for
    CONSTRAINED = "constrained"  # the most likely of all surface forms


class Role(enum.StrEnum):
    """What a set is to the model that is trained or scored on it. A set's registry entry lists the
    roles that it may take in a study.
    """

    FINE_TUNE = "fine_tune"  # its training split is trained on
    IN_DOMAIN = "in_domain"
    OUT_OF_DOMAIN = "out_of_domain"
    CROSS_TASK = "cross_task"  # the model was fine-tuned on another task
    MULTIPLE_CHOICE = "multiple_choice"
    EXTRA = "extra"


class Group(enum.StrEnum):
    """Where the study expects a set to be learned."""

    PRE_TRAINING = "pre_training"
    FINE_TUNING = "fine_tuning"


class Metric(enum.StrEnum):
    """The headline statistic of a set."""

    ACCURACY = "accuracy"
    ROUGE_L = "rougeL"
    EXACT_NUMBER = "exact_number"


class Schedule(enum.StrEnum):
    """The learning rate of the laboratory's pre-training, after its warm-up."""

    COSINE = "cosine"  # down to a tenth at the last step
    CONSTANT = "constant"
    ANNEALED = "annealed"  # constant, then down to zero along a line over the last fifth


class Spacing(enum.StrEnum):
    """The steps of the laboratory's published checkpoints."""

    LOG = "log"  # equal ratios
    LINEAR = "linear"  # equal distances


class Dtype(enum.StrEnum):
    """Compute dtype; parameters and optimizer state stay fp32."""

    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class Loss(enum.StrEnum):
    """What a training minimises."""

    SFT = "sft"  # cross entropy of the completion; of a set of pairs, of the chosen answer
    DPO = "dpo"  # direct preference optimisation on pairs of answers (arXiv 2305.18290)


class Remat(enum.StrEnum):
    """What the backward pass computes again instead of keeping."""

    NONE = "none"
    DOTS = "dots"  # all but the results of matrix products with parameters, and fused attention
    OFFLOAD = "offload"  # as dots, the products waiting in the host's memory (TPU and GPU)
    FULL = "full"  # each layer
    AUTO = "auto"  # the first of none, dots and full that fits the device's memory


class AttentionName(enum.StrEnum):
    """Attention implementations (models/attention.py)."""

    XLA = "xla"
    BLOCKED = "blocked"
    TREES = "trees"
    SPLASH = "splash"
    CUDNN = "cudnn"


# An unknown field is an error wherever a block is built from plain values (`from_dict`).
_FORBID_UNKNOWN = {"extra": "forbid"}


def _block(cls):
    """A frozen block of a configuration."""
    cls.__pydantic_config__ = _FORBID_UNKNOWN
    return dataclasses.dataclass(frozen=True)(cls)


@_block
class Recipe:
    """Fine-tuning of one checkpoint on one set: all that determines the parameters.

    The defaults are the study's (arXiv 2408.06663, section 3 and appendix).
    """

    task: str = ""  # name in the task registry, or a YAML task file
    format: str = "default"
    protocol: ProtocolName = ProtocolName.STRICT
    quirks: tuple[str, ...] = ()  # single quirks to switch, e.g. ("+loss_mean_per_example",)
    rows: int | None = 6000  # subsample, shuffled with `data_seed`; None: all rows
    data_seed: int = 42
    epochs: int = 3
    batch_size: int = 8
    learning_rate: float = 2e-6
    warmup_fraction: float = 0.03
    weight_decay: float = 0.0
    adam_b1: float = 0.9
    adam_b2: float = 0.999
    adam_eps: float = 1e-8
    clip_norm: float | None = 1.0  # None: no clipping
    max_length: int = 2048  # tokens per example; the model's context is a limit of its own
    seed: int = 42  # order of the examples
    dtype: Dtype = Dtype.BFLOAT16
    moment_dtype: Dtype | None = None  # of Adam's first moment; None: float32
    lora_rank: int | None = None  # train an adapter of this rank; None: all parameters
    lora_alpha: float | None = None  # the adapter's scale is alpha / rank; None: twice the rank
    lora_targets: tuple[str, ...] | None = None  # projections with an adapter; None: all
    lora_rank_stabilised: bool | None = None  # True: the scale is alpha / sqrt(rank)
    loss: Loss | None = None  # None: sft
    dpo_beta: float | None = None  # how far the model may move from where it starts; None: 0.1
    dpo_length_normalised: bool | None = None  # True: means per token (Tulu 3, with beta 5)
    dpo_label_smoothing: float | None = None  # share of pairs labelled the wrong way; None: 0
    chat_template: bool | None = None  # conversations: True: the tokenizer's; None: the study's
    held_out_rows: int | None = None  # of `rows`, kept out of training: their loss chooses a rate


@_block
class Scoring:
    """How a model is scored: everything but the model, set, format and shots that determines the
    number.
    """

    protocol: ProtocolName = ProtocolName.STRICT
    quirks: tuple[str, ...] = ()
    method: Method = Method.TOKEN_PROB
    rows: int | None = None  # subsample of each set, drawn with seed 0; None: all
    shot_seed: int = 0
    max_new_tokens: int = 60
    bootstrap: int = 3000  # resamples of the stored interval
    bootstrap_seed: int = 0
    dtype: Dtype = Dtype.FLOAT32


@_block
class TrainRun:
    """Where and how fast a model is trained; it changes the parameters by rounding only."""

    mesh: str = "data:-1"  # axis:size pairs; -1 takes the devices that are left
    micro_batch_size: int | None = None  # gradients are accumulated; None: the batch at once
    packing: bool | None = None  # several examples per row; None: where it pays (docs/training.md)
    stack: int | None = 1  # checkpoints or rates in one program; None: what memory allows
    remat: Remat = Remat.NONE
    save_every: int | None = None  # steps between resumable states; None: at the end of each epoch
    keep_states: int = 2  # newest resumable states that stay
    keep_best: str | None = None  # and the best by held_out_loss, loss or accuracy; None: no other
    step_seconds: float | None = None  # a step that takes longer ends the run; None: half an hour
    log_every: int = 10
    wandb: str | None = None  # project of Weights & Biases (needs the extra wandb); None: none
    profile: str | None = None  # steps that are traced: FIRST:LAST, or one; None: none


@_block
class ScoreRun:
    """Where and how fast a model is scored; it changes the numbers by rounding only."""

    mesh: str = "data:-1"
    batch_tokens: int | None = None  # tokens per batch; None: from the device's memory
    attention: AttentionName | None = None  # None: the best of the platform
    # A batch that takes longer ends the run; None: half an hour where several processes work as
    # one, else no limit.
    batch_seconds: float | None = None


@_block
class TrainConfig:
    """`amuro train`: one recipe on one checkpoint."""

    checkpoint: str = ""  # Hub name[@revision], HF folder, native folder, or converted folder
    workdir: str = ""  # where metrics, state and the final model go; a folder or gs://…
    data_root: str = ""  # folder of local data sets; empty: the Hub
    recipe: Recipe = Recipe()
    run: TrainRun = TrainRun()


@_block
class ScoreConfig:
    """`amuro score`: one model, base or fine-tuned, on some sets under some formats."""

    checkpoint: str = ""
    workdir: str = ""
    data_root: str = ""
    tasks: tuple[str, ...] = ()
    formats: tuple[str, ...] | None = None  # None: default; a multiple-choice set has this one only
    shots: tuple[int, ...] = (4,)
    scoring: Scoring = Scoring()
    # In place of the scoring's own: strict+no_stop, …; `each`: both, and every quirk by itself.
    protocols: tuple[str, ...] = ()
    run: ScoreRun = ScoreRun()


@_block
class FineTune:
    """One fine-tuning set of a study, and what differs from the study's `recipe`; None inherits.

    A set may come in several variants (full and LoRA), each with a name of its own.
    """

    task: str = ""
    variant: str = ""  # name of this way to tune on the set; of the first entry usually none
    format: str | None = None
    quirks: tuple[str, ...] | None = None  # of its training: ("+loss_mean_per_example",)
    rows: int | None = None
    all_rows: bool = False  # the full training split, whatever the study's `rows`
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    max_length: int | None = None
    lora_rank: int | None = None
    lora_alpha: float | None = None
    lora_targets: tuple[str, ...] | None = None
    lora_rank_stabilised: bool | None = None
    loss: Loss | None = None
    dpo_beta: float | None = None
    dpo_length_normalised: bool | None = None
    dpo_label_smoothing: float | None = None
    chat_template: bool | None = None
    held_out_rows: int | None = None
    learning_rates: tuple[float, ...] | None = None  # the best for each checkpoint is scored too


@_block
class EvalSet:
    """One row of a study's evaluation plan."""

    task: str = ""
    role: Role = Role.IN_DOMAIN  # in_domain, out_of_domain or multiple_choice
    of: tuple[str, ...] = ()  # fine-tuning sets whose models are scored on it; empty: all
    formats: tuple[str, ...] | None = None  # None: by role (docs/study.md)
    shots: tuple[int, ...] | None = None  # None: the study's
    group: Group | None = None  # where it is learned; None: decided by a test


@_block
class WeightNoise:
    """How a study measures the sensitivity of base models: their scores with Gaussian noise on the
    weights.
    """

    sigmas: tuple[float, ...] = ()  # in units of each matrix's root mean square; empty: none
    draws: int = 3  # of the noise, for each sigma
    seed: int = 0  # of the first draw; the others have the next ones
    tasks: tuple[str, ...] = ()  # sets that are scored; empty: the multiple-choice sets


@_block
class Probe:
    """How a study looks at what base models would learn: the gradient on rows of each fine-tuning
    set, and a few steps of fine-tuning.
    """

    steps: int | None = None  # of fine-tuning; None: no probe
    held_out_rows: int = 64  # of the training set, whose loss is taken before and after
    learning_rate: float | None = None  # None: the set's own
    lora_rank: int | None = None  # of an adapter that is trained instead; None: as the set is tuned


@_block
class RayTask:
    """What one checkpoint of a study takes as a task of `--executor=ray`."""

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    resources: tuple[str, ...] = ()  # NAME:COUNT of the cluster's own, as TPU-v5litepod-8-head:1
    max_retries: int = 10  # after the loss of a worker or its node; -1: without end


@_block
class StudyConfig:
    """`amuro study`: checkpoints × fine-tuning sets × evaluation sets × formats × shots."""

    name: str = "study"
    workdir: str = ""
    data_root: str = ""
    suite: str = ""  # Hub name or folder of checkpoints; with `select`, gives the series
    select: str = "all"  # revisions by list, all, every:k, log:n, tokens:n
    fine_tunes: tuple[FineTune, ...] = ()
    evals: tuple[EvalSet, ...] = ()
    formats: tuple[str, ...] = ("default",)
    shots: tuple[int, ...] = (4,)
    recipe: Recipe = Recipe()  # of every fine-tuning set, but for what its entry changes
    seeds: tuple[int, ...] = ()  # each training once for each; empty: once, with the recipe's seed
    averages: tuple[int, ...] = ()  # each checkpoint also as the average of the last n
    average_seeds: bool = False  # also the average of each checkpoint's models over `seeds`
    noise: WeightNoise = WeightNoise()  # scores of base models with noise on their weights
    probe: Probe = Probe()  # a few steps of fine-tuning of each base model, for predictions
    scoring: Scoring = Scoring()
    train_run: TrainRun = TrainRun()
    score_run: ScoreRun = ScoreRun()
    ray: RayTask = RayTask()  # with --executor=ray
    mixed_protocols: bool = False  # allow a recipe of one protocol to be scored under the other
    keep_models: bool = False  # keep fine-tuned parameters after they are scored
    disk_budget_gb: float | None = None  # converted and downloaded checkpoints; None: no limit
    reuse: tuple[str, ...] = ()  # workdirs of other studies whose finished cells are taken over


@_block
class LabModel:
    """Size of the laboratory's OLMo-architecture model."""

    hidden_size: int = 128
    num_layers: int = 3
    num_heads: int = 4
    mlp_size: int = 384
    vocab_size: int = 1280  # tokenizer entries; embedding rows are padded to a multiple of 64
    max_length: int = 512


@_block
class LabConfig:
    """`amuro lab`: a synthetic world, its corpus, its data sets, and a series of checkpoints."""

    out: str = ""  # folder to write
    seed: int = 0
    model: LabModel = LabModel()
    creatures: int = 40  # invented creatures, each with five attributes
    corpus_documents: int = 200000  # of about 17 tokens each
    train_rows: int = 1200  # per fine-tuning set
    test_rows: int = 200  # per test set
    steps: int = 2000
    batch_size: int = 32  # sequences per step, a multiple of 4
    sequence_length: int = 64  # tokens per sequence
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    warmup_steps: int = 50
    checkpoints: int = 8  # published, at log-spaced steps from `first_checkpoint` to `steps`
    first_checkpoint: int = 20
    save_every: int = 400  # steps between saved states, besides those at published checkpoints
    dtype: Dtype = Dtype.FLOAT32
    mesh: str = "data:-1"
    schedule: Schedule | None = None  # of the learning rate; None: cosine
    pretraining_seed: int | None = None  # initial weights, order of the corpus; None: `seed`
    spacing: Spacing | None = None  # of the published checkpoints; None: log
    # Creatures that enter the corpus at known steps, and as many that never do (docs/lab.md).
    late_creatures: int | None = None  # None: none
