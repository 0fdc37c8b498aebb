r"""Sentiment of texts in many languages: a linear classifier trained on labelled English only.

$$P(\text{positive} \mid x) = \sigma\bigl(w^\top e(x) + b\bigr)$$

with the multilingual embedding e of `SentenceEncoder`, and w, b fitted to the bundled English sentences. Other
languages are zero-shot, so the classifier has its measured `accuracy` for each. It was made for short everyday praise
and complaints. On other texts, and on broken ones, it guesses. The probabilities are not calibrated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.fingerprints import fingerprint
from semhub_lens.base.optional_packages import optional
from semhub_lens.data.text.corpora import SentimentText, sentiments
from semhub_lens.scores.inputs import as_texts
from semhub_lens.scores.relevance import SentenceEncoder

INVERSE_REGULARISATION = 10.0
"""Fixed beforehand: embeddings have norm 1, so the default of 1 would keep the weights too small."""
FOLDS = 10


@dataclass(frozen=True)
class Accuracy:
    """The number of correctly classified held-out sentences in a language."""

    language: str
    correct: int
    items: int

    @property
    def share(self) -> float:
        """The share of correct ones; guessing gives .5."""
        return self.correct / self.items

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share (Wilson)."""
        from scipy.stats import binomtest  # a second of import, for one number

        interval = binomtest(self.correct, self.items).proportion_ci(method="wilson")
        return float(interval.low), float(interval.high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.language} {self.share:.3f} [{low:.3f}, {high:.3f}] of {self.items}"


@checked
class SentimentClassifier:
    """A logistic regression on sentence embeddings, trained (within a second) when it is made.

    Args:
        encoder: None means a new `SentenceEncoder`.
        sentences: labelled sentences; None means the bundled ones. Those in `trained_on` are for training, all others
            only for testing.
        trained_on: the training language.

    Raises:
        SemhubError: a blank sentence, fewer than ten training sentences of a label, or a package not installed.

    Example:
        >>> classifier = SentimentClassifier()
        >>> sorted(classifier.accuracy)
        ['de', 'en', 'es', 'fr', 'zh']
        >>> good, bad = classifier(["La soupe était délicieuse.", "La soupe était infecte."])
        >>> bool(good > bad)
        True
    """

    accuracy: Mapping[str, Accuracy]
    """Held-out accuracy in each language: ten-fold cross-validation in the training language, zero-shot in the others.
    """

    def __init__(
        self,
        encoder: SentenceEncoder | None = None,
        *,
        sentences: Sequence[SentimentText] | None = None,
        trained_on: str = "en",
    ) -> None:
        self._trained_on = trained_on
        listed = list(sentiments() if sentences is None else sentences)
        if blank := [row for row in listed if not row.text.strip()]:
            raise SemhubError(f"{len(blank)} of the labelled sentences are blank; leave them out.")
        self._hash = fingerprint([[row.language, row.positive, row.text] for row in listed])
        by_language = {
            language: [row for row in listed if row.language == language]
            for language in dict.fromkeys(row.language for row in listed)
        }
        _check_training(by_language.get(trained_on, []), trained_on)
        self._encoder = encoder or SentenceEncoder()
        self._fitted, self.accuracy = self._fit(by_language)

    def _fit(self, by_language: Mapping[str, list[SentimentText]]) -> tuple[Any, dict[str, Accuracy]]:
        selection = optional("sklearn.model_selection", "scikit-learn", "scores")
        regression = optional("sklearn.linear_model", "scikit-learn", "scores").LogisticRegression
        model = regression(C=INVERSE_REGULARISATION, max_iter=1000)
        folds = selection.StratifiedKFold(FOLDS, shuffle=True, random_state=0)
        texts = {language: [row.text for row in rows] for language, rows in by_language.items()}
        x = {language: self._encoder.encode(listed).numpy() for language, listed in texts.items()}
        y = {language: [row.positive for row in rows] for language, rows in by_language.items()}
        own = self._trained_on
        held_out = selection.cross_val_predict(model, x[own], y[own], cv=folds)
        model.fit(x[own], y[own])
        guesses = {language: held_out if language == own else model.predict(x[language]) for language in x}
        accuracy = {
            language: Accuracy(language, sum(map(int, guess == y[language])), len(guess))
            for language, guess in guesses.items()
        }
        return model, accuracy

    @property
    def name(self) -> str:
        """Classifier, training data and measured accuracy in one line, for a result's provenance or notes."""
        measured = "; ".join(map(str, self.accuracy.values()))
        return (
            f"logistic regression on {self._encoder.name}, trained on {self.accuracy[self._trained_on].items} labelled "
            f"sentences in {self._trained_on} (data {self._hash}); held-out accuracy: {measured}"
        )

    @checked
    def __call__(self, texts: str | Sequence[str]) -> Float[Tensor, " item"]:
        """P(positive) of each text; NaN for a blank one.

        Raises:
            SemhubError: no texts.
        """
        listed = as_texts(texts)
        embeddings = self._encoder.encode(listed).double()
        weight, bias = torch.from_numpy(self._fitted.coef_[0]).double(), float(self._fitted.intercept_[0])
        return torch.sigmoid(embeddings @ weight + bias).float()


@checked
def sentiment(
    texts: str | Sequence[str], language: str, *, classifier: SentimentClassifier | None = None
) -> Float[Tensor, " item"]:
    """Return P(positive) of each text by a classifier trained on English; NaN for a blank text.

    The classifier errs most on short, broken or repetitive texts. `classifier.accuracy` has its measured accuracy.

    Args:
        texts: the texts, without their prompts.
        language: their language; it must be one in which the classifier's accuracy was measured.
        classifier: None makes a `SentimentClassifier`. Pass your own to score several sets of texts, and to report
            `classifier.name` with the results.

    Returns:
        One probability per text.

    Raises:
        SemhubError: no texts, a language without measured accuracy, or the encoder or scikit-learn not installed.

    Example:
        >>> bool(sentiment("这道菜非常好吃。", "zh") > 0.5)
        True
    """
    listed = as_texts(texts)
    measured = classifier.accuracy if classifier else dict.fromkeys(row.language for row in sentiments())
    if language not in measured:  # said before a classifier is trained
        raise SemhubError(f"The sentiment classifier was not measured in {language!r}, only in {', '.join(measured)}.")
    return (classifier or SentimentClassifier())(listed)


def _check_training(rows: Sequence[SentimentText], language: str) -> None:
    positive = sum(row.positive for row in rows)
    if min(positive, len(rows) - positive) < FOLDS:
        raise SemhubError(
            f"Training in {language!r} needs at least {FOLDS} sentences of each label, got {positive} positive and "
            f"{len(rows) - positive} negative ones."
        )
