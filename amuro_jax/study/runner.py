"""Does what a study has not done yet, checkpoint by checkpoint.

Killed anywhere, it goes on and computes nothing twice.
"""

import dataclasses
import datetime
import time
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp

from amuro_jax import __version__, checkpoint, compiles, files, sharding
from amuro_jax.config import StudyConfig, to_dict
from amuro_jax.convert.prefetch import Prefetcher
from amuro_jax.data import encoding, protocols, queries, sources
from amuro_jax.data.registry import get_task
from amuro_jax.data.tokenizer import Tokenizer, check_eos
from amuro_jax.errors import AmuroError
from amuro_jax.evals.evaluate import evaluate, rules
from amuro_jax.evals.prepare import prepare
from amuro_jax.evals.run import scorer_config
from amuro_jax.logs import progress_bar
from amuro_jax.models.parameters import logical_axes
from amuro_jax.results import store
from amuro_jax.scoring.scorer import Scorer, keep_programs
from amuro_jax.study import grid, keys, plan
from amuro_jax.study.lease import lease
from amuro_jax.train.fine_tune import fine_tune


def run(config: StudyConfig, revisions, report=lambda line: None) -> list[str]:
    """Runs every cell that is not done; returns a line for each that failed. `report` gets a line
    about what was compiled.

    Raises:
        ConfigError: a study that cannot be run as written.
        AmuroError: another process is at work in the folder.
    """
    grid.validate(config)
    meshes = (
        sharding.whole_mesh(config.score.mesh, "config.score.mesh"),
        sharding.whole_mesh(config.train.mesh, "config.train.mesh"),
    )
    workdir = Path(config.workdir)
    with lease(workdir) as renew, compiles.watch() as watch:
        runner = _Runner(config, workdir, renew, plan.make_plan(config, revisions), watch, meshes)
        budget = int(config.disk_budget_gb * 1e9)
        models = plan.models_of(config, revisions)
        runner.start(models)
        try:
            with Prefetcher([revision.name for revision in revisions], budget=budget) as folders:
                for revision in revisions:
                    own = [model for model in models if model.checkpoint == revision.name]
                    runner.checkpoint(own, folders)
        finally:
            runner.bar.close()
            if (
                watch.total != compiles.Compiles()
            ):  # a run with nothing left to do leaves the log as it was
                store.log(workdir, "compiled", "", config.name, **watch.total.record())
            report(str(watch.total))
        return runner.failures


@dataclasses.dataclass
class _Base:
    """One opened checkpoint."""

    folder: Path
    hash: str
    config: object
    tokenizer: Tokenizer
    revision: str


class _Runner:
    """State of one run: compiled scorers and prepared prompts, which serve all checkpoints."""

    def __init__(
        self,
        config: StudyConfig,
        workdir: Path,
        renew,
        wanted: plan.Plan,
        watch: compiles.Watch,
        meshes,
    ):
        self.config, self.workdir, self.renew, self.wanted, self.failures = (
            config,
            workdir,
            renew,
            wanted,
            [],
        )
        self._watch = watch
        self.protocol = protocols.resolve(config.score.protocol, config.score.quirks)
        self.mesh, self.train_mesh = meshes
        self._scorers, self._prepared, self._encoded = {}, {}, {}

    def start(self, models) -> None:
        """Records what is asked for.

        Compiled programs are kept in the folder, so that a killed study does not compile again.
        """
        keep_programs(self.workdir / "programs")
        total = sum(
            len(plan.specs_of(self.config, model)) + bool(model.tuned_on) for model in models
        )
        self.bar = progress_bar(total, self.config.name, unit="cell")
        files.write_json(
            self.workdir / "configs" / f"{files.content_key(self.wanted.config)}.json",
            self.wanted.config,
        )
        self.wanted.write(self.workdir)

    def checkpoint(self, models, folders) -> None:
        """All models of one checkpoint: base first, then each fine-tuned one."""
        try:
            base = self._open(next(folders), models[0].revision)
        except AmuroError as error:
            self._fail(models[0].revision, error)
            self.bar.update(
                sum(
                    len(plan.specs_of(self.config, model)) + bool(model.tuned_on)
                    for model in models
                )
            )
            return
        self._note_keys(base, models)
        params = _Lazy(
            lambda: checkpoint.load_params(
                base.folder, base.config, mesh=self.mesh, dtype=jnp.float32
            )
        )
        for model in models:
            label = f"{model.label()}: {{}}"
            try:
                self._fine_tuned(base, params, model) if model.tuned_on else self._score_all(
                    base, params, model, base.hash
                )
            except AmuroError as error:
                self._fail(label.format("model"), error)
            except Exception as error:  # one model's fault must not cost the others
                self._fail(label.format("model"), error, traceback.format_exc())

    def _note_keys(self, base, models):
        """Puts the keys of one checkpoint's cells into `study.json`, so that the report knows which
        cells are this study's.
        """
        found = {}
        for model in models:
            recipe = (
                grid.recipe_of(self.config, plan.fine_tune_of(self.config, model))
                if model.tuned_on
                else None
            )
            own = (
                keys.train_key(base.hash, recipe, base.tokenizer.fingerprint)
                if recipe
                else base.hash
            )
            for spec in plan.specs_of(self.config, model):
                at = (model.revision, model.tuned_on, spec.task, spec.format, spec.shots)
                found[at] = keys.score_key(own, spec, self.config, base.tokenizer.fingerprint)
        changed = False
        for cell in self.wanted.cells:
            key = found.get(plan.identity(cell), cell["key"])
            changed, cell["key"] = changed or key != cell["key"], key
        if changed:
            self.wanted.write(self.workdir)

    def _open(self, folder, revision):
        tokenizer = Tokenizer.load(folder / "tokenizer")
        if warning := check_eos(tokenizer, where=folder):
            raise AmuroError(
                warning, where=folder, hint="mend eos_token_id in the checkpoint's config.json"
            )
        return _Base(
            folder,
            checkpoint.model_hash(folder),
            checkpoint.read_config(folder),
            tokenizer,
            revision,
        )

    def _fine_tuned(self, base, params, model):
        recipe = grid.recipe_of(self.config, plan.fine_tune_of(self.config, model))
        key = keys.train_key(base.hash, recipe, base.tokenizer.fingerprint)
        kept = self.workdir / "models" / key
        todo = self._todo(base, model, key)
        trained = store.is_done(self.workdir, key)
        self.bar.update(trained)
        if todo and not (trained and kept.exists()):
            tuned = _Lazy(lambda: self._train(base, params(), model, recipe, key, kept))
            tuned()
            self.bar.update(not trained)
        else:
            tuned = _Lazy(lambda: self._load_tuned(base, kept))
        self._score_all(base, tuned, model, key)
        if not self.config.keep_models and not self._todo(base, model, key):
            checkpoint.remove(kept)

    def _load_tuned(self, base, kept):
        return checkpoint.load_params(kept, base.config, mesh=self.mesh)

    def _train(self, base, params, model, recipe, key, kept):
        label = model.label()
        store.log(self.workdir, "started", key, f"train {label}")
        before = self._watch.total
        training = self._examples(recipe, base)
        started = time.perf_counter()
        switches = protocols.resolve(recipe.protocol, recipe.quirks)
        done = fine_tune(
            _place(params, base.config, self.train_mesh),
            base.config,
            training.examples,
            recipe,
            recipe,
            mesh=self.train_mesh,
            workdir=self.workdir / "runs" / key,
            weigh_examples=switches.loss_mean_per_example,
            warmup_rounded_down=switches.warmup_rounded_down,
            description=f"  {label}",
        )
        provenance = self._provenance(base) | {
            "form": "fine_tuned",
            "parents": [base.hash],
            "recipe": to_dict(recipe),
        }
        checkpoint.save_model(kept, done.params, base.config, base.folder / "tokenizer", provenance)
        record = {
            "key": key,
            "kind": "train",
            "model": self._model_record(model),
            "recipe": to_dict(recipe),
            "protocol": {"name": switches.name, "switches": switches.switches()},
            "metrics": {
                "loss": done.loss,
                "steps": done.steps,
                "tokens": done.tokens,
                "truncated": training.truncated,
                "dropped": training.dropped,
            },
            "provenance": provenance,
            "seconds": round(time.perf_counter() - started, 3),
        }
        store.write_cell(self.workdir, record)
        checkpoint.remove(self.workdir / "runs" / key / "state")
        self._finished(key, f"train {label}", record["seconds"], before)
        return _place(done.params, base.config, self.mesh)

    def _examples(self, recipe, base):
        at = (
            recipe.task,
            recipe.format,
            recipe.rows,
            recipe.data_seed,
            recipe.max_length,
            recipe.protocol,
            recipe.quirks,
            base.tokenizer.fingerprint,
        )
        if at not in self._encoded:
            self._encoded[at] = encoding.encode_training_set(
                get_task(recipe.task),
                recipe.format,
                protocols.resolve(recipe.protocol, recipe.quirks),
                base.tokenizer,
                max_length=min(recipe.max_length, base.config.max_length),
                rows=recipe.rows,
                seed=recipe.data_seed,
                data_root=recipe.data_root,
            )
        return self._encoded[at]

    def _todo(self, base, model, model_key):
        pairs = [
            (spec, keys.score_key(model_key, spec, self.config, base.tokenizer.fingerprint))
            for spec in plan.specs_of(self.config, model)
        ]
        return [(spec, key) for spec, key in pairs if not store.is_done(self.workdir, key)]

    def _score_all(self, base, params, model, model_key):
        todo = self._todo(base, model, model_key)
        self.bar.update(len(plan.specs_of(self.config, model)) - len(todo))
        for spec, key in todo:
            label = f"{model.label()}: {spec.label()}"
            self.renew()
            try:
                self._score(base, params(), model, spec, key, label)
            except AmuroError as error:
                self._fail(label, error, key=key)
            except Exception as error:
                self._fail(label, error, traceback.format_exc(), key)
            self.bar.update(1)

    def _score(self, base, params, model, spec, key, label):
        store.log(self.workdir, "started", key, label)
        self.bar.set_postfix_str(label)
        started, before, score = time.perf_counter(), self._watch.total, self.config.score
        scorer, prepared = self._scorer(base), self._prepare(base, spec)
        _, summary = rules(get_task(spec.task), self.protocol)
        made = evaluate(
            scorer,
            params,
            base.tokenizer,
            prepared,
            bootstrap=score.bootstrap,
            seed=score.bootstrap_seed,
            **summary,
        )
        seconds = round(time.perf_counter() - started, 3)
        record = {
            "key": key,
            "kind": "score",
            "model": self._model_record(model),
            "specification": self._specification(spec, model),
            "method": prepared.method,
            "protocol": {"name": self.protocol.name, "switches": self.protocol.switches()},
            "metrics": made.metrics,
            "provenance": self._provenance(base)
            | {"data": keys.data_checksums(spec.task, self.config), "score": to_dict(score)},
            "context": base.config.max_length,
            "seconds": seconds,
        }
        store.write_cell(self.workdir, record, made.rows)
        self._finished(key, label, seconds, before)

    def _finished(self, key, label, seconds, before):
        store.log(
            self.workdir,
            "finished",
            key,
            label,
            seconds=seconds,
            compiles=(self._watch.total - before).record(),
        )

    def _specification(self, spec, model):
        task = get_task(spec.task)
        split = sources.test_split(task, self.protocol, self.config.data_root).name
        return {
            **dataclasses.asdict(spec),
            "split": split,
            "primary": task.primary,
            "model": model.label(),
        }

    def _scorer(self, base):
        config = scorer_config(base.config, self.protocol)
        if config not in self._scorers:
            score = self.config.score
            self._scorers[config] = Scorer(
                config,
                self.mesh,
                score.dtype,
                batch_tokens=score.batch_tokens,
                attention=score.attention,
            )
        return self._scorers[config]

    def _prepare(self, base, spec):
        at, score = (
            (spec.task, spec.format, spec.shots, base.tokenizer.fingerprint),
            self.config.score,
        )
        if at not in self._prepared:
            asked = queries.build_queries(
                get_task(spec.task),
                spec.format,
                spec.shots,
                self.protocol,
                base.tokenizer,
                data_root=self.config.data_root,
                max_length=base.config.max_length,
                max_new_tokens=score.max_new_tokens,
                rows=score.rows,
                shot_seed=score.shot_seed,
            )
            options, _ = rules(get_task(spec.task), self.protocol)
            self._prepared[at] = prepare(
                asked,
                base.tokenizer,
                method=score.method,
                max_new_tokens=score.max_new_tokens,
                **options,
            )
        return self._prepared[at]

    def _model_record(self, model):
        return {
            "checkpoint": model.revision,
            "step": model.step,
            "tokens": model.tokens,
            "tuned_on": model.tuned_on,
            "suite": self.config.suite,
        }

    def _provenance(self, base):
        source = checkpoint.read_provenance(base.folder)
        return {
            "checkpoint_hash": base.hash,
            "checkpoint": {
                name: source[name]
                for name in ("source", "revision", "commit", "files")
                if source.get(name)
            },
            "tokenizer": base.tokenizer.fingerprint,
            "code": __version__,
            "jax": jax.__version__,
            "devices": f"{jax.device_count()} × {jax.devices()[0].device_kind}",
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }

    def _fail(self, label, error, trace=None, key=None):
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        self.failures.append(f"{label}: {type(error).__name__ + ': ' if trace else ''}{first}")
        store.log(self.workdir, "failed", key or "", label, error=str(error), trace=trace)


def _place(params, config, mesh):
    """Parameters laid out for a mesh; those that lie so already are not copied."""
    return (
        params
        if mesh is None
        else jax.device_put(params, sharding.shardings(logical_axes(config), params, mesh))
    )


class _Lazy:
    """A value made at its first use."""

    def __init__(self, make):
        self._make, self._value = make, None

    def __call__(self):
        if self._value is None:
            self._value = self._make()
        return self._value
