"""Trains the classifier, and writes model.keras, vocabulary.json and held_out.json beside itself: some minutes.

pip install keras torch tqdm
python examples/sentence_classifier/train.py

The sentences come from the source distribution of vaderSentiment, 2 MB, which pip fetches into build/examples.
"""

import os

os.environ["KERAS_BACKEND"] = "torch"

import json
import sys
import tarfile
from collections import Counter, defaultdict
from pathlib import Path

import keras
import numpy as np
from keras import layers
from sentences import FOLDER, WORDS, Ids, Sentence, padded, tokens
from tqdm.keras import TqdmCallback

sys.path.append(str(Path(__file__).resolve().parents[1]))
from _audio import file_of_source_distribution

PACKAGE = ("vaderSentiment", "3.3.2")
ARCHIVE = "additional_resources/hutto_ICWSM_2014.tar.gz"
FILES = {
    "tweets": "tweets",
    "movies": "movieReviewSnippets",
    "products": "amazonReviewSnippets",
    "editorials": "nytEditorialSnippets",
}
VOCABULARY = 2500  # with PADDING and UNKNOWN: about what a model file of 1 MB holds
COMMON = 1000  # words that are there because they are common
RARE = 4  # sentences: a word of fewer is not learnt
LENGTH = 40  # words of a sentence while training: 97 % have no more
SURE = 1.0  # what is held out is rated further from 0 than this, so that it is positive or negative to people, too
EPOCHS = 12
PATIENCE = 2


def rated_sentences() -> list[Sentence]:
    """All, without those that are there twice."""
    found: dict[tuple[str, ...], Sentence] = {}
    with tarfile.open(fileobj=file_of_source_distribution(*PACKAGE, ARCHIVE)) as tar:
        for source, name in FILES.items():
            file = tar.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
            assert file is not None
            for line in file.read().decode("utf-8", errors="replace").splitlines():
                _, rating, text = line.split("\t", 2)
                found.setdefault(tuple(tokens(text)), Sentence(text.strip(), source, float(rating)))
    found.pop((), None)
    return list(found.values())


def words_that_matter(sentences: list[Sentence]) -> list[str]:
    """The most common words, and of the others those whose sentences' ratings are furthest from 0 together."""
    counts: Counter[str] = Counter()
    ratings: defaultdict[str, float] = defaultdict(float)
    for sentence in sentences:
        words = tokens(sentence.text)
        counts.update(words)
        for word in sorted(set(words)):
            ratings[word] += sentence.rating
    common = [word for word, _ in counts.most_common(COMMON)]
    others = [word for word in counts if counts[word] >= RARE and word not in set(common)]
    others.sort(key=lambda word: (-abs(ratings[word]) / (counts[word] + RARE) ** 0.5, word))
    return (common + others)[: VOCABULARY - WORDS]


def network(dropout: float, embedding_dtype: str) -> keras.Model:
    ids = keras.Input((None,), dtype="int32", name="words")
    x = layers.Embedding(VOCABULARY, 128, mask_zero=True, dtype=embedding_dtype, name="embedding")(ids)
    x = layers.Dropout(dropout)(x)
    x = layers.Bidirectional(layers.GRU(64), name="encoder")(x)
    x = layers.Dropout(dropout)(x)
    return keras.Model(ids, layers.Dense(1, activation="sigmoid", name="positive")(x))


def main() -> None:
    keras.utils.set_random_seed(0)
    everything = rated_sentences()
    order = np.random.default_rng(0).permutation(len(everything))
    train, validation, held_out = (
        [everything[i] for i in part] for part in np.split(order, [len(order) * 8 // 10, len(order) * 9 // 10])
    )
    validation = [sentence for sentence in validation if abs(sentence.rating) > SURE]
    held_out = [sentence for sentence in held_out if abs(sentence.rating) > SURE]
    words = words_that_matter(train)
    known = {word: WORDS + i for i, word in enumerate(words)}

    def encoded(sentences: list[Sentence]) -> Ids:
        unknown = WORDS - 1
        return padded([np.array([known.get(t, unknown) for t in tokens(s.text)], np.int32) for s in sentences], LENGTH)

    # Each sentence counts as positive as its raters find it: one of 0.2 says little, and is not left out either.
    share = 1.0 / (1.0 + np.exp(-2.0 * np.array([sentence.rating for sentence in train], np.float32)))
    positive = np.array([sentence.rating > 0 for sentence in validation], np.float32)

    model = network(dropout=0.5, embedding_dtype="float32")
    model.compile(
        keras.optimizers.AdamW(2e-3, weight_decay=1e-2, clipnorm=1.0),
        loss="binary_crossentropy",
        metrics=[keras.metrics.AUC(name="auc")],  # of the validation: it makes nothing of shares
    )
    model.fit(
        encoded(train),
        share,
        batch_size=64,
        epochs=EPOCHS,
        verbose=0,
        validation_data=(encoded(validation), positive),
        callbacks=[
            TqdmCallback(verbose=1),
            keras.callbacks.EarlyStopping("val_auc", mode="max", patience=PATIENCE, restore_best_weights=True),
        ],
    )

    # The table of the embedding is two thirds of the file, and is as good in float16.
    small = network(dropout=0.0, embedding_dtype="float16")
    small.set_weights(model.get_weights())
    small.save(FOLDER / "model.keras")
    licence = file_of_source_distribution(*PACKAGE, "LICENSE.txt").read().decode()
    rows = ",\n".join(json.dumps(sentence, ensure_ascii=False) for sentence in held_out)
    (FOLDER / "held_out.json").write_text(
        f'{{"source": "{" ".join(PACKAGE)}, {ARCHIVE}",\n"licence": {json.dumps(licence)},\n'
        f'"sentences": [\n{rows}\n]}}\n',
        encoding="utf-8",
    )
    (FOLDER / "vocabulary.json").write_text(json.dumps(words, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
