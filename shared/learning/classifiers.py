"""The classifiers that a configuration can name: scikit-learn's estimators with scikit-learn's parameters and defaults.

Where a default differs from scikit-learn's, the description says why. `class_weight` is "balanced" throughout: how
often a carer recorded a label says little of how often it is meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from shared.schema_utils import Schema

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

Scaler = Literal["standard", "none"]
ClassWeight = Literal["balanced"] | None
MaxFeatures = Literal["sqrt", "log2"] | Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0.0, le=1.0)] | None


class ClassifierConfig(Schema):
    """What every classifier has."""

    isotropic_kind: ClassVar[bool] = False  # treats all directions of feature space alike, where nothing is scaled
    spread_share: ClassVar[float | None] = None  # of the spread of its logits, their usual temperature; None: that is 1

    scaler: Scaler = Field(default="standard", description="standardise each feature first, or take it as it is")

    @property
    def isotropic(self) -> bool:
        """Whether the fit depends on the samples' inner products alone."""
        return self.isotropic_kind and self.scaler == "none"

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of scikit-learn's estimator by their names."""
        return {name: getattr(self, name) for name in type(self).model_fields if name not in ("type", "scaler")}

    def estimator(self, samples: int, classes: int, seed: int) -> BaseEstimator:
        """Return an estimator to fit on so many samples of so many classes; its random choices follow from `seed`."""
        raise NotImplementedError

    def text(self) -> str:
        """Return the type with every parameter that is not its default, such as `svm(C=10.0)`."""
        fields = type(self).model_fields
        differing = [
            f"{name}={value}"
            for name, field in fields.items()
            if name != "type" and (value := getattr(self, name)) != field.default
        ]
        kind: str = fields["type"].default
        return f"{kind}({', '.join(differing)})" if differing else kind


class LDA(ClassifierConfig):
    """Linear discriminant analysis; the covariance is pooled before it is shrunk: docs/decisions/pooled-lda.md."""

    spread_share: ClassVar[float | None] = 0.1

    type: Literal["lda"] = "lda"
    shrinkage: Literal["auto"] | Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        default="auto", description="of the covariance; scikit-learn's default, none, fails where samples are few"
    )

    def estimator(self, samples: int, classes: int, seed: int) -> BaseEstimator:
        from shared.learning.pooled_lda import PooledShrinkageLDA

        return PooledShrinkageLDA(**self.parameters())


class LogisticRegression(ClassifierConfig):
    """scikit-learn's LogisticRegression: multinomial, with an L2 penalty."""

    isotropic_kind: ClassVar[bool] = True
    spread_share: ClassVar[float | None] = 0.3

    type: Literal["logistic_regression"] = "logistic_regression"
    C: float = Field(default=1.0, gt=0.0, description="inverse strength of the penalty")
    class_weight: ClassWeight = Field(default="balanced", description="balanced: every label weighs the same")
    tol: float = Field(default=1e-4, gt=0.0, description="at which gradient the search ends")
    max_iter: int = Field(default=1000, ge=1, description="of the search; scikit-learn's 100 often ends too early")

    def estimator(self, samples: int, classes: int, seed: int) -> BaseEstimator:
        from sklearn import linear_model

        return linear_model.LogisticRegression(**self.parameters())


class Ridge(ClassifierConfig):
    """scikit-learn's RidgeClassifier; with `alpha: auto` its RidgeClassifierCV, by leave-one-out error."""

    isotropic_kind: ClassVar[bool] = True

    type: Literal["ridge"] = "ridge"
    alpha: Literal["auto"] | Annotated[float, Field(gt=0.0)] = Field(default=1.0, description="strength of the penalty")
    class_weight: ClassWeight = Field(default="balanced", description="balanced: every label weighs the same")

    def estimator(self, samples: int, classes: int, seed: int) -> BaseEstimator:
        from sklearn import linear_model

        if self.alpha == "auto":
            alphas = [10.0**k for k in range(-2, 6)]
            return linear_model.RidgeClassifierCV(alphas=alphas, class_weight=self.class_weight)
        return linear_model.RidgeClassifier(**self.parameters())


class KernelRidge(ClassifierConfig):
    """Kernel ridge regression to class indicators; folds share their inner products: docs/decisions/kernel-ridge.md."""

    isotropic_kind: ClassVar[bool] = True

    type: Literal["kernel_ridge"] = "kernel_ridge"
    alpha: float = Field(default=1.0, gt=0.0, description="strength of the penalty")
    kernel: Literal["linear", "rbf"] = Field(default="linear", description="linear suits rows that are wide and sparse")
    gamma: float | None = Field(default=None, gt=0.0, description="of rbf; null: one over the rows' mean square length")

    def estimator(self, samples: int, classes: int, seed: int) -> BaseEstimator:
        from shared.learning.kernel_ridge import KernelRidgeClassifier

        return KernelRidgeClassifier(**self.parameters())


class SVM(ClassifierConfig):
    """scikit-learn's SVC."""

    type: Literal["svm"] = "svm"
    C: float = Field(default=1.0, gt=0.0, description="inverse strength of the penalty")
    kernel: Literal["rbf", "linear", "poly", "sigmoid"] = Field(default="rbf", description="similarity of two samples")
    gamma: Literal["scale", "auto"] | Annotated[float, Field(gt=0.0)] = Field(
        default="scale", description="of the kernels rbf, poly and sigmoid"
    )
    degree: int = Field(default=3, ge=1, le=10, description="of the kernel poly")
    coef0: float = Field(default=0.0, description="of the kernels poly and sigmoid")
    class_weight: ClassWeight = Field(default="balanced", description="balanced: every label weighs the same")

    def estimator(self, samples: int, classes: int, seed: int) -> BaseEstimator:
        from sklearn import svm

        return svm.SVC(**self.parameters())


class NearestNeighbors(ClassifierConfig):
    """scikit-learn's KNeighborsClassifier; of a few samples at most all are neighbours."""

    type: Literal["nearest_neighbors"] = "nearest_neighbors"
    n_neighbors: int = Field(default=5, ge=1, le=1000, description="that vote")
    weights: Literal["uniform", "distance"] = Field(default="uniform", description="of the votes")
    metric: Literal["euclidean", "cosine"] = Field(default="euclidean", description="by which neighbours are near")

    def estimator(self, samples: int, classes: int, seed: int) -> BaseEstimator:
        from sklearn import neighbors

        nearest = min(self.n_neighbors, samples)
        return neighbors.KNeighborsClassifier(n_neighbors=nearest, weights=self.weights, metric=self.metric)


class NearestCentroid(ClassifierConfig):
    """scikit-learn's NearestCentroid, or the nearest class mean by cosine."""

    type: Literal["nearest_centroid"] = "nearest_centroid"
    metric: Literal["euclidean", "manhattan", "cosine"] = Field(
        default="euclidean", description="cosine, after centring, is none of scikit-learn's"
    )
    shrink_threshold: float | None = Field(default=None, gt=0.0, description="of the centroids; not with cosine")

    @property
    def isotropic(self) -> bool:
        """Whether the fit depends on the samples' inner products alone."""
        return self.scaler == "none" and self.metric != "manhattan" and self.shrink_threshold is None

    def estimator(self, samples: int, classes: int, seed: int) -> BaseEstimator:
        if self.metric == "cosine":
            from shared.learning.cosine_centroid import CosineCentroidClassifier

            return CosineCentroidClassifier()
        from sklearn import neighbors

        shrink = self.shrink_threshold if samples > classes else None  # else nothing varies within a class
        return neighbors.NearestCentroid(metric=self.metric, shrink_threshold=shrink)


class Forest(ClassifierConfig):
    """What both kinds of forest have."""

    n_estimators: int = Field(default=100, ge=1, le=2000, description="trees")
    max_depth: int | None = Field(default=None, ge=1, description="of a tree; null: until its leaves are pure")
    max_leaf_nodes: int | None = Field(default=None, ge=2, description="of a tree; null: no limit")
    min_samples_leaf: int = Field(default=1, ge=1, description="samples that a leaf has at least")
    max_features: MaxFeatures = Field(default="sqrt", description="looked at for each split: a number or a share")
    class_weight: ClassWeight = Field(default="balanced", description="balanced: every label weighs the same")


class RandomForest(Forest):
    """scikit-learn's RandomForestClassifier."""

    type: Literal["random_forest"] = "random_forest"

    def estimator(self, samples: int, classes: int, seed: int) -> BaseEstimator:
        from sklearn import ensemble

        return ensemble.RandomForestClassifier(**self.parameters(), random_state=seed)


class ExtraTrees(Forest):
    """scikit-learn's ExtraTreesClassifier."""

    type: Literal["extra_trees"] = "extra_trees"

    def estimator(self, samples: int, classes: int, seed: int) -> BaseEstimator:
        from sklearn import ensemble

        return ensemble.ExtraTreesClassifier(**self.parameters(), random_state=seed)


class GradientBoosting(ClassifierConfig):
    """scikit-learn's GradientBoostingClassifier."""

    type: Literal["gradient_boosting"] = "gradient_boosting"
    n_estimators: int = Field(default=100, ge=1, le=2000, description="stages")
    learning_rate: float = Field(default=0.1, gt=0.0, description="by which each stage counts")
    max_depth: int | None = Field(default=3, ge=1, description="of a tree; null: until its leaves are pure")
    min_samples_leaf: int = Field(default=1, ge=1, description="samples that a leaf has at least")
    subsample: float = Field(default=1.0, gt=0.0, le=1.0, description="share of the samples that a stage is fitted on")
    max_features: MaxFeatures = Field(default=None, description="looked at for each split: a number, a share, or all")

    def estimator(self, samples: int, classes: int, seed: int) -> BaseEstimator:
        from sklearn import ensemble

        return ensemble.GradientBoostingClassifier(**self.parameters(), random_state=seed)


class MLP(ClassifierConfig):
    """scikit-learn's MLPClassifier."""

    type: Literal["mlp"] = "mlp"
    hidden_layer_sizes: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        default=(100,), max_length=8, description="neurons of each hidden layer"
    )
    activation: Literal["relu", "tanh", "logistic", "identity"] = Field(default="relu", description="of the neurons")
    solver: Literal["adam", "lbfgs", "sgd"] = Field(default="adam", description="lbfgs suits few samples")
    alpha: float = Field(default=1e-4, ge=0.0, description="strength of the L2 penalty")
    learning_rate_init: float = Field(default=1e-3, gt=0.0, description="first step size of adam and sgd")
    max_iter: int = Field(default=200, ge=1, description="epochs of adam and sgd, iterations of lbfgs")

    def estimator(self, samples: int, classes: int, seed: int) -> BaseEstimator:
        from sklearn import neural_network

        return neural_network.MLPClassifier(**self.parameters(), random_state=seed)


Classifier = Annotated[
    LDA
    | LogisticRegression
    | Ridge
    | KernelRidge
    | SVM
    | NearestNeighbors
    | NearestCentroid
    | RandomForest
    | ExtraTrees
    | GradientBoosting
    | MLP,
    Field(discriminator="type"),
]
