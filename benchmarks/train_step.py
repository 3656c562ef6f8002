"""One training step on CPU against HF transformers on torch in three ways, on real rows:
interleaved, losses compared first, ratios of medians; and the share of the best matrix product.

    python benchmarks/train_step.py --data_root=DATA --tokenizer=TOKENIZER.json
        [--tasks=mnli_matched,paws,xsum,tulu --layers=12 --rounds=3 --threads=1]

OLMo architecture (152 M parameters with 12 layers), fp32, AdamW, clip 1.0, eight rows a step.
Against (a) a row at a time, eight per update, as the study ran; (b) the eight rows padded to the
longest; (c) packed as TRL does it: restarted positions and a mask of the documents. Every worker is
a process of its own, held to `--threads` cores: on a machine that others use, the processor time of
one thread says what the work costs, wall time what the others left. Peak memory is the process's.
Our worker has the huge pages that `amuro train` starts with; `--huge_pages` gives torch them too.
"""

import argparse
import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import time

from amuro_jax import huge_pages

HIDDEN, MLP, VOCAB = 768, 3072, 50304
BATCH = 8
WORKERS = {
    "amuro": "amuro_jax",
    "a": "HF + torch, a row at a time",
    "b": "HF + torch, padded",
    "c": "HF + torch, packed, masked",
}
RATE = 1e-4
SIDE, TRIALS = 1536, 5  # of the product that measures the machine


def model_config(layers: int):
    """The model that everybody trains."""
    from amuro_jax.models.config import ModelConfig

    heads = HIDDEN // 64
    return ModelConfig("olmo", VOCAB, HIDDEN, layers, heads, heads, 64, MLP, 2048)


def batches(given, task: str) -> list[list]:
    """Batches of eight rows of a set, in the order of the study's subsample."""
    from amuro_jax.data import protocols
    from amuro_jax.data.encoding import encode_training_set
    from amuro_jax.data.registry import get_task
    from amuro_jax.data.tokenizer import Tokenizer

    rows = encode_training_set(
        get_task(task),
        "default",
        protocols.STRICT,
        Tokenizer.from_file(given.tokenizer),
        rows=BATCH * (given.rounds + 2),  # some are left out: nothing to learn within the length
        data_root=given.data_root,
        max_length=given.max_length,
    ).examples
    return [rows[start : start + BATCH] for start in range(0, BATCH * (given.rounds + 1), BATCH)]


class Ours:
    """This package's step, packed."""

    def __init__(self, given):
        import jax

        from amuro_jax.models.parameters import init_params
        from amuro_jax.train.optimizer import Optimizer
        from amuro_jax.train.step import make_step

        self.config = model_config(given.layers)
        self.step, self.jax = make_step(self.config, Optimizer(clip_norm=1.0)), jax
        self.state = self.step.init(init_params(self.config, 0))
        sums = functools.partial(
            self.step.objective.sums, config=self.config, compute=self.step.compute
        )
        self.derived = jax.jit(
            jax.value_and_grad(sums, has_aux=True), compiler_options=self.step.options
        )

    def prepare(self, batches) -> None:
        """Compiles what these batches need, each further shape of packed rows being a program; the
        state starts anew after it, so that there is never a second one.
        """
        from amuro_jax.models.parameters import init_params
        from amuro_jax.train.batches import pack_batch

        packed = [pack_batch(rows, 1).arrays() for rows in batches]
        for arrays in {batch["tokens"].shape: batch for batch in packed}.values():
            self.state, _ = self.step(self.state, arrays, RATE)
        self.jax.block_until_ready(self.state.params)
        self.state = None
        self.state = self.step.init(init_params(self.config, 0))

    def run(self, rows) -> float:
        """The loss of one update."""
        from amuro_jax.train.batches import pack_batch

        arrays = pack_batch(rows, 1).arrays()
        self.state, metrics = self.step(self.state, arrays, RATE)
        self.jax.block_until_ready(self.state.params)
        return float(metrics["loss"])

    def gradient(self, rows) -> None:
        """The forward and backward pass alone, of one batch."""
        from amuro_jax.train.batches import pack_batch

        arrays = pack_batch(rows, 1).arrays()
        self.jax.block_until_ready(self.derived(self.state.params, arrays))

    def best(self) -> float:
        """FLOP/s of the best of some large products, in processor time."""
        ones = self.jax.numpy.ones((SIDE, SIDE))
        product = self.jax.jit(self.jax.numpy.matmul)
        times = [_timed(lambda: product(ones, ones).block_until_ready())[2] for _ in range(TRIALS)]
        return 2 * SIDE**3 / min(times)


class Torch:
    """transformers' OLMo with the same parameters, one of three ways."""

    def __init__(self, given, way):
        import torch
        import transformers

        torch.set_num_threads(given.threads)
        config = transformers.OlmoConfig(
            vocab_size=VOCAB,
            hidden_size=HIDDEN,
            intermediate_size=MLP,
            num_hidden_layers=given.layers,
            num_attention_heads=HIDDEN // 64,
            tie_word_embeddings=True,
            pad_token_id=1,
            eos_token_id=2,
        )
        self.torch, self.way = torch, way
        self.model = transformers.OlmoForCausalLM(config)
        _copy(self.model, given.layers)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, weight_decay=0.0)

    def run(self, rows) -> float:
        """The loss of one update."""
        count = sum(int(row.loss_mask[1:].sum()) for row in rows)
        parts = {"a": self._each, "b": self._padded, "c": self._packed}[self.way](rows)
        total = 0.0
        for inputs, labels in parts:
            loss = self.model(**inputs, labels=labels, num_items_in_batch=count).loss
            loss.backward()
            total += loss.item()
        self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total

    def _each(self, rows):
        for row in rows:
            tokens = self.torch.tensor(row.tokens).long()[None]
            yield {"input_ids": tokens}, self._labels([row], tokens.shape)

    def _padded(self, rows):
        longest = max(len(row.tokens) for row in rows)
        tokens = self.torch.ones(len(rows), longest).long()
        mask = self.torch.zeros_like(tokens)
        for line, row in enumerate(rows):
            tokens[line, : len(row.tokens)] = self.torch.tensor(row.tokens)
            mask[line, : len(row.tokens)] = 1
        yield {"input_ids": tokens, "attention_mask": mask}, self._labels(rows, tokens.shape)

    def _packed(self, rows):
        from amuro_jax.train.batches import first_fit

        longest = max(len(row.tokens) for row in rows)
        lines = first_fit(rows, longest)
        tokens = self.torch.ones(len(lines), longest).long()
        position, document = self.torch.zeros_like(tokens), self.torch.full_like(tokens, -1)
        labels = self.torch.full_like(tokens, -100)
        for line, packed in enumerate(lines):
            start = 0
            for number, row in enumerate(packed):
                own = slice(start, start + len(row.tokens))
                tokens[line, own] = self.torch.tensor(row.tokens)
                position[line, own] = self.torch.arange(len(row.tokens))
                document[line, own] = number
                labels[line, own] = self._labels([row], (1, len(row.tokens)))[0]
                start = own.stop
        causal = self.torch.ones(longest, longest).tril().bool()
        seen = (document[:, :, None] == document[:, None, :]) & causal
        mask = self.torch.where(seen, 0.0, self.torch.finfo(self.torch.float32).min)[:, None]
        inputs = {"input_ids": tokens, "attention_mask": mask, "position_ids": position}
        yield inputs, labels

    def _labels(self, rows, shape):
        labels = self.torch.full(shape, -100).long()
        for line, row in enumerate(rows):
            learned = self.torch.tensor(row.loss_mask.nonzero()[0])
            learned = learned[learned > 0]
            labels[line, learned] = self.torch.tensor(row.tokens).long()[learned]
        return labels


def _copy(model, layers):
    """Our initial parameters into transformers' model."""
    import numpy as np
    import torch

    from amuro_jax.models.parameters import flatten, init_params

    config = model_config(layers)
    flat = {name: np.asarray(leaf) for name, leaf in flatten(init_params(config, 0)).items()}
    names = {f"{name[0]}_proj": f"attention/{name}" for name in ("query", "key", "value")}
    names |= {f"{name}_proj": f"mlp/{name}" for name in ("gate", "up", "down")}
    names["o_proj"] = "attention/out"
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "layers." not in name:
                tensor.copy_(torch.tensor(flat["embed/embedding"]))
                continue
            number, projection = int(name.split(".")[2]), name.split(".")[-2]
            kernel = flat[f"layers/{names[projection]}/kernel"][number]
            inputs = kernel.size // tensor.shape[0]
            tensor.copy_(torch.tensor(kernel.reshape(inputs, -1).T.copy()))


def _timed(action):
    """(result, wall seconds, processor seconds)."""
    wall, used = time.perf_counter(), time.process_time()
    result = action()
    return result, time.perf_counter() - wall, time.process_time() - used


def work(given) -> None:
    """A worker: a line `TASK NUMBER` is one update, `gradient TASK NUMBER` the passes without it;
    an empty one asks for memory and speed.
    """
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: given.threads]))
    worker = Ours(given) if given.worker == "amuro" else Torch(given, given.worker)
    rows = {task: batches(given, task) for task in given.tasks.split(",")}
    if given.worker == "amuro":
        worker.prepare([batch for task in rows for batch in rows[task]])
    for line in sys.stdin:
        if not line.strip():
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(json.dumps([peak, worker.best() if given.worker == "amuro" else 0]), flush=True)
            continue
        *gradient, task, number = line.split()
        action = worker.gradient if gradient else worker.run
        step = functools.partial(action, rows[task][int(number)])
        print(json.dumps(_timed(step)), flush=True)


def ask(worker: subprocess.Popen, text: str):
    """What a worker answers."""
    worker.stdin.write(text + "\n")
    worker.stdin.flush()
    return json.loads(worker.stdout.readline())


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_root", required=True)
    parser.add_argument("--tokenizer", required=True, help="tokenizer.json")
    parser.add_argument("--tasks", default="mnli_matched,paws,xsum,tulu")
    parser.add_argument("--huge_pages", action="store_true", help="for torch too")
    parser.add_argument("--one_by_one", action="store_true", help="for little memory")
    parser.add_argument("--worker", default="", help="internal: be one of the workers")
    for name, value in {"layers": 12, "rounds": 3, "threads": 1, "max_length": 1024}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    if given.worker:
        work(given)
        return
    tasks = given.tasks.split(",")
    groups = [[name] for name in WORKERS] if given.one_by_one else [list(WORKERS)]
    made: dict = {task: {} for task in tasks}
    memory, passes = {}, {task: [] for task in tasks}
    for names in groups:
        workers = {name: start(given, name) for name in names}
        for task in tasks:
            for number in range(given.rounds + 1):
                for name, worker in workers.items():
                    made[task].setdefault(name, []).append(ask(worker, f"{task} {number}"))
        for name, worker in workers.items():
            memory[name] = ask(worker, "")  # before what follows adds programs
            for task in tasks if name == "amuro" else ():
                for number in (*range(1, given.rounds + 1), *range(1, given.rounds + 1)):
                    passes[task].append(ask(worker, f"gradient {task} {number}"))
            worker.stdin.close()
            worker.wait()
    print(
        "| rows | tokens a step | who | wall s | processor s | ratio | wanted | largest difference "
        "of losses |\n|" + "---|" * 8
    )
    for task in tasks:
        _report(given, task, made[task], passes[task], memory["amuro"][1])
    for name, (peak, _) in memory.items():
        print(f"{WORKERS[name]}: peak memory {peak / 1e9:.2f} GB")
    print(f"best product {memory['amuro'][1] / 1e9:.1f} GFLOP/s; load {os.getloadavg()[0]:.0f}")


def start(given, name: str) -> subprocess.Popen:
    """A worker process."""
    threads = {"OMP_NUM_THREADS": str(given.threads), "MKL_NUM_THREADS": str(given.threads)}
    environment = os.environ | threads | {"JAX_PLATFORMS": "cpu"}
    if name == "amuro" or given.huge_pages:
        environment = huge_pages.with_huge_pages(environment) or environment
    return subprocess.Popen(
        [sys.executable, *sys.argv, f"--worker={name}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def _report(given, task, made, passes, best):
    """Lines of one set: medians over rounds, and the share of the best product's speed that the
    products of real tokens reach, in the time of the forward and backward pass and of the step.
    """
    losses = {name: [result[0] for result in results] for name, results in made.items()}
    gaps = {name: max(map(_gap, losses[name], losses["amuro"])) for name in made}
    assert max(gaps.values()) < 2e-3, f"losses differ: {losses}"
    rows = batches(given, task)[1 : given.rounds + 1]
    tokens = sum(len(row.tokens) for batch in rows for row in batch) / len(rows)
    times = {
        name: [statistics.median(column) for column in list(zip(*results[1:], strict=True))[1:]]
        for name, results in made.items()
    }
    flops = 6 * given.layers * (4 * HIDDEN**2 + 3 * HIDDEN * MLP) * tokens
    for name, (wall, used) in times.items():
        ratio = times[name][1] / times["amuro"][1]
        wanted = {"a": 4, "b": 1.5, "c": 1.3}.get(name, "")
        print(
            f"| {task} | {tokens:.0f} | {WORKERS[name]} | {wall:.2f} | {used:.2f} | {ratio:.2f} | "
            f"{wanted} | {gaps[name]:.0e} |",
            flush=True,
        )
    # The second half: by then every shape is compiled.
    backward = statistics.median(used for _, _, used in passes[given.rounds :])
    for what, used in {"the step": times["amuro"][1], "forward and backward": backward}.items():
        rate = flops / used
        print(f"{task}, {what}: {used:.2f} processor s, {rate / 1e9:.1f} GFLOP/s, ", end="")
        print(f"{rate / best:.0%} of the best product", flush=True)


def _gap(left, right):
    return abs(left - right)


if __name__ == "__main__":
    main()
