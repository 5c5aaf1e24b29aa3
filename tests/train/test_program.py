"""What a phase compiles."""

import jax
import jax.numpy as jnp

from ssl_jax.train import program


def test_a_convolution_is_found_wherever_it_is():
    image, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))

    def convolved(image):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            image, kernel, (1, 1), "SAME", dimension_numbers=numbers
        )

    @jax.custom_vjp
    def with_gradient(image):
        return convolved(image)

    with_gradient.defvjp(lambda x: (convolved(x), None), lambda _, y: (y,))
    hiding = {
        "nowhere": lambda x: jnp.sort(jnp.sin(x)),
        "plain": convolved,
        "jit": jax.jit(convolved),
        "remat": jax.grad(lambda x: jax.checkpoint(convolved)(x).sum()),
        "custom_vjp": with_gradient,
        "scan": lambda x: jax.lax.scan(lambda c, _: (convolved(c), None), x, None, 3),
        "cond": lambda x: jax.lax.cond(x.sum() > 0, convolved, lambda x: x, x),
        "vmap": jax.vmap(convolved),
    }
    found = {}
    for name, function in hiding.items():
        given = image[None] if name == "vmap" else image
        jaxpr = jax.make_jaxpr(function)(given)
        found[name] = "conv_general_dilated" in program._primitives(jaxpr)
        assert found[name] == ("conv_general_dilated" in str(jaxpr))
    assert found == {name: name != "nowhere" for name in hiding}
