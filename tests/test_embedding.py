"""The embedding with image features, against numpy."""

import numpy as np

from tests.operators import both, config, functional, random_weights, tensor


def expected(tokens, features, starts, table):
    out = table[tokens]
    for image, (row, column) in zip(features, starts):
        if row >= 0:
            out[row, column:column + len(image)] = image
    return out


def test_images_take_their_slots():
    made, rng = config(), np.random.default_rng(1)
    weights = random_weights("embedding", made)
    tokens = rng.integers(0, made.vocab_size, [3, 700])
    features = rng.standard_normal([4, 256, made.hidden_size]).astype(np.float32)
    starts = np.array([[0, 1], [2, 0], [-1, -1], [0, 444]], np.int32)
    for result in both("embedding", tensor(tokens, "int64"), tensor(features), tensor(starts, "int32"), weights):
        np.testing.assert_array_equal(result, expected(tokens, features, starts, weights["token_embedding"].numpy()))


def test_an_image_at_the_edge_is_cut_as_on_a_gpu():
    made, rng = config(), np.random.default_rng(2)
    weights, features = random_weights("embedding", made), rng.standard_normal([2, 256, made.hidden_size])
    tokens, table = rng.integers(0, made.vocab_size, [1, 300]), weights["token_embedding"].numpy()
    result = functional.embedding(tensor(tokens, "int64"), tensor(features), tensor([[0, 290], [0, -250]], "int32"),
                                  weights).numpy()
    wanted = table[tokens]
    wanted[0, 290:], wanted[0, :6] = features[0, :10], features[1, 250:]
    np.testing.assert_array_equal(result, wanted.astype(np.float32))


def test_decode_step_without_image():
    made, weights = config(), random_weights("embedding", config())
    tokens = np.array([[5], [90]])
    unused = tensor(np.ones([1, 256, made.hidden_size])), tensor([[-1, -1]], "int32")
    for result in both("embedding", tensor(tokens, "int64"), *unused, weights):
        np.testing.assert_array_equal(result, weights["token_embedding"].numpy()[tokens])
