"""What the parameters of an estimator ask of a fit."""

from dataclasses import replace
from numbers import Integral
from typing import Any

from sklearn.utils import check_random_state

from gmmdask.algorithms import ALGORITHMS, Algorithm, Batch, Squarem
from gmmdask.compiled import fast_kernel
from gmmdask.execution import setting
from gmmdask.parameters import bytes_of, reg_covar_under
from gmmdask.planning import sample_sizes
from gmmdask.settings import BY_NAME, Settings
from gmmdask.sources import Source
from gmmdask.start import Start


def asked(model: Any, source: Source) -> Settings:
    """Of an estimator whose parameters are valid, for these data."""
    warm, state = is_warm(model), model.random_state
    if state is not None:
        state = int(state) if isinstance(state, Integral) else check_random_state(state)
    settings = Settings(
        begun(model, source.d),
        Batch(),
        reg_covar=reg_covar_under(model.prior, model.reg_covar),
        n_init=1 if warm else int(model.n_init),
        random_state=state,
        memory_limit=bytes_of(model.memory_limit),
        sample_rows=None if model.sample_rows is None else int(model.sample_rows),
        bounds=tuple(model.lower_bounds_[-3:]) if warm else (),
        kernel=fast_kernel(setting("kernel")),
        cache=model.cache,
        **{name: getattr(model, name) for name in BY_NAME},
    )
    whole = source.n <= sample_sizes(source, settings)[0]
    return replace(settings, algorithm=algorithm_of(model, whole))


def is_warm(model: Any) -> bool:
    """Whether the next fit begins where the last one has ended."""
    return bool(model.warm_start and hasattr(model, "means_"))


def begun(model: Any, d: int) -> Start:
    """The start: where the last fit has ended, or as the parameters have it."""
    k, kind = int(model.n_components), model.covariance_type
    if not is_warm(model):
        given = (model.weights_init, model.means_init, model.precisions_init)
        return Start.checked(kind, k, d, model.init_params, *given)
    k = min(k, len(model.means_)) if model.empty == "drop" else k  # what was dropped stays so
    now, then = (k, d, kind), (*model.means_.shape, model.mixture_.covariance_type)
    if now != then:
        raise ValueError(
            f"warm_start=True goes on from the last fit, of (components, features, covariance_type) = {then}, "
            f"which does not fit {now}. Set warm_start=False to begin anew."
        )
    weights = model.weights_ if model.noise or not model.noise_weight_ else model.weights_ / model.weights_.sum()
    return Start(kind, k, model.init_params, weights, model.means_, model.precisions_)


def algorithm_of(model: Any, whole: bool) -> Algorithm:
    """What the parameters name, for data that fits in the sample (`whole`) or does not."""
    algorithm = model.algorithm
    if isinstance(algorithm, str):
        stop = ("gain" if whole else "predicted") if model.stop == "auto" else model.stop
        algorithm = ALGORITHMS[algorithm].of(tol=float(model.tol), max_iter=int(model.max_iter), stop=stop)
    if not isinstance(algorithm, Batch):
        if model.accelerate == "squarem":
            raise ValueError(f"accelerate='squarem' goes with algorithm='em', not with {model.algorithm!r}.")
        return algorithm
    plain = isinstance(model.algorithm, Algorithm) or whole
    return algorithm if model.accelerate is None or (model.accelerate == "auto" and plain) else Squarem(algorithm)
