"""GaussianMixture: scikit-learn's estimator, for rows that do not fit in memory."""

import warnings
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from gmmdask.algorithms import Algorithm, Stochastic
from gmmdask.asked import asked, begun
from gmmdask.compiled import fast_kernel
from gmmdask.conversions import ConvertibleMixture
from gmmdask.densities import check_names
from gmmdask.ending import Fitted
from gmmdask.execution import one_thread, open_executor, setting
from gmmdask.job import Job
from gmmdask.outcome import Callback
from gmmdask.parameters import CONSTRAINTS, DEFAULT_REG_COVAR, check_stream
from gmmdask.place import Place
from gmmdask.record import is_of
from gmmdask.settings import Settings
from gmmdask.sources import DataError, Source, open_source
from gmmdask.sources.weights import weighted
from gmmdask.stream import Stream
from gmmdask.verbose import teller

NOT_CONVERGED = (
    "Best performing initialization did not converge. Try different init parameters, or increase max_iter, tol, or "
    "check for degenerate data."
)


class GaussianMixture(ConvertibleMixture):
    """Gaussian mixture, fitted out of core by expectation maximisation.

    Takes scikit-learn's parameters with scikit-learn's meaning; data may be NumPy, dask, Zarr or xarray arrays, pandas,
    polars or Dask DataFrames, or the path of a .npy file, a Zarr array or Parquet files. Data that fits in the sample
    gives scikit-learn's model; larger data is sampled, started on the sample, and fitted by passes over all rows.

    Parameters
    ----------
    n_components : K.
    covariance_type : {"full", "tied", "diag", "spherical"}
    tol : stop when a pass gains less, nats per row; 0 always runs `max_iter` passes, as in scikit-learn, but without
        its ConvergenceWarning: all that was asked for was done, and a warning that always comes tells nothing.
    reg_covar : added to the diagonal of covariances, squared data units.
    max_iter : passes over all rows; the first look is not one of them.
    n_init : starts; the best is kept. Where the data is larger than the sample there are 8 at least: they cost no pass.
    init_params : {"kmeans", "k-means++", "random", "random_from_data", "kmeans-whitened", "k-means||"}: the last reads
        all rows six times, and finds rare clusters that are far from all others, of which a sample has no row.
    weights_init : (K,); means_init : (K, d); precisions_init : in the covariance type's shape.
    random_state : seed; a RandomState is drawn from; None draws from NumPy's global one.
    warm_start : whether the next `fit` begins where the last one ended.
    verbose, verbose_interval : 1 prints starts, every so many passes, and how they ended, to standard output; 2 gains,
        bounds and seconds too.
    algorithm : "em"; "stochastic", an M-step after every mini-batch; "incremental", which keeps the statistics of
        every mini-batch; "gradient", L-BFGS, and "riemannian", for "full"; or a value that brings its own settings,
        such as `gmmdask.algorithms.Stochastic(rate=0.01)`.
    accelerate : "squarem" extrapolates the steps of "em", None does not; "auto" does where the data does not fit in the
        sample.
    stop : {"auto", "gain", "predicted"}: "gain" is scikit-learn's rule, "predicted" bounds the predicted remaining
        gain; "auto" is "gain" for data that fits in the sample, else "predicted".
    checkpoint : path, URL or `gmmdask.Place` of the file in which the fit saves itself after passes.
    callbacks : functions that receive the events of `gmmdask.outcome`.
    memory_limit : bytes, or a text such as "1GB", that the fit may add to its process.
    cache : {"auto", "never", "always"}: whether stored rows stay in memory once they are read; "auto" keeps up to 1 GiB
        of them, or what `memory_limit` leaves, in this process, and none on a cluster. It moves no bit.
    sample_rows : rows of the sample; None for about 100 a parameter.
    empty : {"reseed", "drop", "error"}: what becomes of a component of less than one row (or, without reg_covar, of
        fewer than its covariance needs): it begins anew as a half of the heaviest, is dropped, or is an error.
    prior : None, or "mclust", the conjugate prior of Fraley and Raftery (2007): fits maximise the posterior, no
        component can collapse, and lower bounds have the log prior in them; it takes the place of reg_covar.
    weight_concentration : α of a Dirichlet prior of the weights, 1 or more: every component counts α - 1 rows more than
        it holds, so that weights are drawn together; lower bounds have its log density in them. 1 is none.
    refine : None, or "split-merge": once EM has converged on the sample (or on all rows, if they fit in it), two
        components are merged and a third split wherever that raises the score.
    noise : whether there is a uniform component over the box of the data, for outliers, beside the K others; its label
        is -1, and weights_ sum to 1 - noise_weight_.
    missing : {"error", "em"}: NaN is an error, or a value missing at random: fits maximise the likelihood of what is
        there (Ghahramani and Jordan 1994), and predictions go by it.

    Attributes
    ----------
    weights_ (K,), means_ (K, d), covariances_, precisions_, precisions_cholesky_ (in the covariance type's shape); they
    are float64 whatever the rows are,
    noise_weight_ (0.0 without noise),
    converged_, n_iter_ (passes), lower_bound_ and lower_bounds_ (nats per row), n_features_in_,
    feature_names_in_ (d,), if the columns have names and all are strings,
    stream_ (what `partial_fit` has learned so far, see `gmmdask.stream.Stream`; else None),
    history_ (a dict a pass: lower bound, log likelihood, gain, seconds, rows, bytes), outcome_ (why it ended).
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = CONSTRAINTS

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = DEFAULT_REG_COVAR,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        algorithm: str | Algorithm = "em",
        accelerate: str | None = "auto",
        stop: str = "auto",
        checkpoint: str | Path | Place | None = None,
        callbacks: Sequence[Callback] = (),
        memory_limit: int | str | None = None,
        cache: str = "auto",
        sample_rows: int | None = None,
        empty: str = "reseed",
        prior: str | None = None,
        weight_concentration: float = 1.0,
        refine: str | None = None,
        noise: bool = False,
        missing: str = "error",
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.algorithm = algorithm
        self.accelerate = accelerate
        self.stop = stop
        self.checkpoint = checkpoint
        self.callbacks = callbacks
        self.memory_limit = memory_limit
        self.cache = cache
        self.sample_rows = sample_rows
        self.empty = empty
        self.prior = prior
        self.weight_concentration = weight_concentration
        self.refine = refine
        self.noise = noise
        self.missing = missing

    # --- fitting -----------------------------------------------------------------------------------------------

    def fit(
        self, X: Any, y: Any = None, *, sample_weight: Any = None, scheduler: Any = None, resume: bool | str = False
    ) -> Self:
        """Fits the mixture to X, n rows of d features.

        Parameters
        ----------
        X : array, path or source; see `gmmdask.sources.open_source`.
        sample_weight : (n,) weights of the rows, or None for ones; an array, path or source like X. A row of weight two
            counts as two such rows, one of weight zero as none.
        scheduler : None (the current Dask client, else threads), a Client, an address, "threads" or "synchronous".
        resume : continue from `checkpoint` if there is one, and refuse one of other data or settings; "force" takes it
            where these leave the shape of the data, the model and the algorithm as they were.

        Raises
        ------
        ValueError
            For unusable data or parameters, or an ill-defined covariance.
        gmmdask.execution.ClusterError, OSError
            For trouble with a cluster or storage; the checkpoint is kept.
        """
        self._validate_params()
        source = weighted(open_source(X), sample_weight)
        if resume and self.checkpoint is None:
            raise ValueError("resume=True needs the checkpoint to go on from: set checkpoint=.")
        with open_executor(scheduler) as executor:
            job = Job(source, self.settings(source), executor, self._teller(), self.checkpoint, resume)
            fitted = job.run()
        self._set_names(source.feature_names)
        return self._accept(fitted)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learns more rows of a stream, in flat memory: buffers until it can start, then takes a step for every few.

        How the stream is cut into calls does not matter: rows wait until a step is full. The steps are those of
        `algorithm="stochastic"` with its rate "power", or as a value of `gmmdask.algorithms.Stochastic` has it.

        Parameters
        ----------
        X : (m, d) array or DataFrame.
        sample_weight : (m,), or None for ones. Whole numbers count as so many rows, others weigh in their step.

        Raises
        ------
        gmmdask.sources.DataError
            For rows that cannot be learned; none of the call's rows are then, and what was learned before stays.
        """
        self._validate_params()
        source = open_source(X)
        if not (source.in_memory or source.graph):
            raise DataError(
                f"{source.name}: partial_fit takes rows in memory. Give it pieces of stored rows, or use fit, or the "
                "command `gmmdask stream`."
            )
        stream = getattr(self, "stream_", None)
        if stream is not None:
            check_names(getattr(self, "feature_names_in_", None), source)
        else:
            stream = self._new_stream(source.d)
        rows = next(source.read(0, source.n)) if source.in_memory else np.concatenate([*source.read(0, source.n)])
        with one_thread():
            self.stream_ = stream.taking(rows, sample_weight, self._teller())
            self.n_features_in_ = source.d
            self._set_names(source.feature_names)
            if self.stream_.online is not None:
                if self.stream_.online is not stream.online:
                    self._set_mixture(self.stream_.mixture)
                self._set_history(self.stream_.describe())
                self.lower_bound_ = self.stream_.score
        return self

    def _new_stream(self, d: int) -> Stream:
        check_stream(self.get_params(deep=False))
        algorithm = self.algorithm if isinstance(self.algorithm, Stochastic) else Stochastic()
        state = self.random_state
        seed = int(state) if isinstance(state, Integral) else int(check_random_state(state).randint(2**31))
        start = begun(self, d)
        kernel = fast_kernel(setting("kernel"))
        return Stream(start, algorithm, float(self.reg_covar), int(self.n_init), seed, self.sample_rows, kernel)

    def fit_predict(self, X: Any, y: Any = None, **options: Any) -> Any:
        """Fits, then labels the rows: the component of highest posterior probability each."""
        return self.fit(X, **options).predict(X)

    def _teller(self) -> Callback:
        return teller(self.callbacks, int(self.verbose), int(self.verbose_interval))

    def settings(self, source: Source) -> Settings:
        """What a fit of these data is asked for."""
        return asked(self, source)

    def _accept(self, fitted: Fitted) -> Self:
        self.stream_ = None
        self._set_mixture(fitted.mixture)
        self._set_history(fitted.provenance)
        if fitted.without_spread:
            carrier = "reg_covar" if self.prior is None else "the prior"
            warnings.warn(
                f"features {list(fitted.without_spread)} are constant or linearly dependent: {carrier} carries them.",
                stacklevel=3,
            )
        if fitted.too_few_rows:
            warnings.warn(fitted.too_few_rows, ConvergenceWarning, stacklevel=3)
        if not self.converged_ and self.n_iter_ and getattr(self.algorithm, "tol", self.tol) > 0:
            warnings.warn(f"{NOT_CONVERGED} The fit {fitted.outcome.sentence}", ConvergenceWarning, stacklevel=3)
        return self

    def made(self, provenance: dict[str, Any], X: Any) -> bool:
        """Whether a model with this provenance came from a fit of X with these parameters (max_iter and tol apart)."""
        source = open_source(X)
        return is_of(provenance, source, self.settings(source))
