"""The floor of known ceilings, against numbers worked out by hand."""

import itertools
from dataclasses import replace

import pytest
from known_limits import ceiling, cpu_limits, gpu_limits
from synthetic_runs import case, record

from lstm_harness.analysis.floors.floor import floor, with_floor
from lstm_kernels import PASSES, Problem


def lstm(T, B, H, I=None, **more):  # noqa: E741 - the field's names
    return Problem("lstm", T, B, I or H, H, **more)


def found(problem, ceilings, pass_name="inference", cache="warm"):
    return floor(problem, pass_name, ceilings, cache)


def test_products_bind_a_large_batch_on_a_cpu():
    bound = found(lstm(10, 32, 64), cpu_limits())
    # 2 FLOP x 10 steps x 32 rows x 4 x 64 x 128 weights, at 200 GFLOP/s
    assert bound.ns == pytest.approx(2 * 10 * 32 * 4 * 64 * 128 / 200)
    assert bound.term == "products"
    backward = found(lstm(10, 32, 64), cpu_limits(), "backward")
    assert backward.ns == pytest.approx(2 * bound.ns)
    assert found(lstm(10, 32, 64), cpu_limits(), "train").ns == pytest.approx(3 * bound.ns)


def test_weights_come_from_the_level_that_holds_them():
    fast = cpu_limits({("product", "float32 ieee"): 1e18})
    # 4 x 256 x 256 x 4 bytes, of which 4 kB of registers and 100 kB of L1 keep some
    one = 4 * 256 * 256 * 4
    bound = found(lstm(10, 1, 256), fast)
    assert bound.terms["weights from L1"] == pytest.approx(10 * (one - 4_000) / 800)
    assert bound.terms["weights from L2"] == pytest.approx(10 * (one - 104_000) / 400)
    assert "weights from L3" not in bound.terms
    assert (bound.term, bound.ns) == ("weights from L2", bound.terms["weights from L2"])
    large = found(lstm(10, 1, 1024), fast)
    assert large.term == "weights from L3"
    assert large.ns == pytest.approx(10 * (16 * one - 2_104_000) / 100)


def test_int8_weights_are_a_quarter_as_large_and_their_products_are_not_bounded():
    bound = found(lstm(10, 1, 256, precision="w8"), cpu_limits())
    assert bound.terms["weights from L1"] == pytest.approx(10 * (4 * 256 * 256 - 4_000) / 800)
    assert not [name for name in bound.terms if "products" in name]
    assert lstm(10, 1, 256, precision="w8").bytes("inference") < lstm(10, 1, 256).bytes("inference")


def test_every_layer_and_direction_reads_its_own_weights():
    fast = cpu_limits({("product", "float32 ieee"): 1e18})
    one = found(lstm(10, 1, 256), fast).ns
    for shape in ({"num_layers": 3}, {"bidirectional": True}):
        times = 3 if "num_layers" in shape else 2
        assert found(lstm(10, 1, 256, **shape), fast).ns == pytest.approx(times * one)
    assert found(lstm(10, 1, 256), fast, "train").ns == pytest.approx(2 * one)


def test_data_bind_a_wide_input():
    bound = found(lstm(1000, 100, 1, I=4096), cpu_limits())
    x, y, states = 1000 * 100 * 4096, 1000 * 100, 2 * 100 * 2
    weights = 4 * (4096 + 1) + 8
    moved = 4 * (x + y + states + weights)
    assert bound.terms["data from memory"] == pytest.approx((moved - 32_104_000) / 40)
    assert bound.term == "data from memory"


def test_a_flushed_cache_has_what_is_read_come_from_memory():
    warm, cold = (found(lstm(10, 1, 64), cpu_limits(), cache=cache) for cache in ("warm", "cold"))
    read = 4 * (10 * 64 + 128 + 4 * 64 * 128 + 512)
    assert "data from memory" not in warm.terms
    assert cold.terms["data from memory"] == pytest.approx(read / 40)
    assert cold.ns >= warm.ns


def test_half_types_are_bound_by_the_fastest_type_they_may_be_computed_in():
    rates = {
        dtype: found(lstm(9, 64, 64, dtype=dtype), cpu_limits())
        for dtype in ("float64", "float32", "bfloat16", "float16")
    }
    flops = 2 * 9 * 64 * 4 * 64 * 128
    assert rates["float64"].terms["products"] == pytest.approx(flops / 100)
    assert rates["float16"].terms["products"] == pytest.approx(flops / 200)
    assert rates["bfloat16"].terms["products"] == pytest.approx(flops / 800)
    tf32 = found(lstm(9, 64, 64, precision="tf32"), gpu_limits())
    assert tf32.terms["products"] == pytest.approx(flops / 400e3)


def test_of_several_libraries_the_fastest_counts():
    ceilings = cpu_limits()
    more = (*ceilings.ceilings, ceiling("product", "float32 ieee", 400e9, by="another"))
    slower = (*ceilings.ceilings, ceiling("product", "float32 ieee", 100e9, by="another"))
    flops = 2 * 10 * 32 * 4 * 64 * 128
    for all_of_them, rate in ((more, 400), (slower, 200)):
        bound = found(lstm(10, 32, 64), replace(ceilings, ceilings=all_of_them))
        assert bound.terms["products"] == pytest.approx(flops / rate)


def test_one_sm_that_holds_all_weights_synchronises_nothing():
    bound = found(lstm(1000, 1, 128, dtype="float16"), gpu_limits())
    # 131 kB fit in 500 kB: a product and the gates a step
    product = 2 * 4 * 128 * 128 / 800e3
    assert bound.ns == pytest.approx(1000 * (product + 100))
    assert bound.term == "gates"
    backward = found(lstm(1000, 1, 128, dtype="float16"), gpu_limits(), "backward")
    assert backward.ns == pytest.approx(1000 * (product + 80))


def test_weights_over_many_sms_cost_a_flag_a_step():
    bound = found(lstm(1024, 16, 768, dtype="float16"), gpu_limits())
    weights = 4 * 768 * 768 * 2
    product = 2 * 4 * 16 * 768 * 768 / 800e3
    gathered = (weights / 500_000 - 1) * 16 * 768 * 2 / 5e3
    assert gathered < product
    assert bound.ns == pytest.approx(1024 * (product + 160 + 100))
    assert bound.term == "synchronisation"


def test_gathering_h_binds_where_products_are_fast():
    fast = gpu_limits({("product", "float16 ieee"): 1e18})
    weights = 4 * 768 * 768 * 2
    bound = found(lstm(10, 256, 768, dtype="float16"), fast)
    gathered = (weights / 500_000 - 1) * 256 * 768 * 2 / 5e3
    assert bound.ns == pytest.approx(10 * (gathered + 160 + 100))
    assert bound.term == "gathering h"
    # Of a batch so large, streaming the weights moves less than gathering h.
    larger = found(lstm(10, 512, 768, dtype="float16"), fast)
    assert larger.ns == pytest.approx(10 * ((weights - 500_000) / 5e3 + 160 + 100))


def test_weights_hardly_beyond_one_sm_cost_no_more_than_streaming_the_rest():
    # 251 x 250 x 4 x 2 bytes are not possible; 250 x 250 x 8 is exactly what one SM holds
    fits, beyond = (found(lstm(9000, 1, H, dtype="float16"), gpu_limits()) for H in (250, 251))
    streamed = (4 * 251 * 251 * 2 - 500_000) / 100
    assert streamed < 160
    step = beyond.ns / 9000
    assert step - fits.ns / 9000 == pytest.approx(streamed, rel=0.05)


def test_weights_that_no_chip_holds_stream_from_l2_each_step():
    bound = found(lstm(10, 1, 4096, dtype="float16"), gpu_limits())
    weights = 4 * 4096 * 4096 * 2
    assert bound.ns == pytest.approx(10 * ((weights - 50_000_000) / 5e3 + 160 + 100))
    assert bound.terms["weights from memory"] == pytest.approx(10 * (weights - 10**8) / 3e3)
    assert bound.term == "weights from L2"


def test_a_pass_is_a_kernel_at_least():
    bound = found(lstm(1, 1, 4), gpu_limits())
    assert (bound.ns, bound.term) == (1300.0, "one launch")


def test_layers_overlap_as_a_wavefront_and_directions_of_a_stack_do_not():
    one = found(lstm(100, 1, 128, dtype="float16"), gpu_limits()).ns
    wave = found(lstm(100, 1, 128, dtype="float16", num_layers=4), gpu_limits()).ns
    assert wave == pytest.approx(one + 3 * 100)
    both = found(lstm(100, 1, 128, dtype="float16", bidirectional=True), gpu_limits()).ns
    assert both == pytest.approx(one)
    stack = lstm(100, 1, 128, dtype="float16", num_layers=4, bidirectional=True)
    assert found(stack, gpu_limits()).ns == pytest.approx(4 * one)


def test_training_has_the_chains_of_both_its_passes():
    problem = lstm(1000, 1, 128, dtype="float16", num_layers=2)
    chains = [found(problem, gpu_limits(), name).ns for name in ("forward", "backward", "train")]
    assert chains[2] == pytest.approx(chains[0] + chains[1])


def test_padding_costs_nothing_but_the_longest_sequence_sets_the_steps():
    full = lstm(100, 64, 128, dtype="float16")
    ragged = replace(full, lengths="uniform:1:100")
    assert max(ragged.sequence_lengths()) == 100
    a, b = found(full, gpu_limits()), found(ragged, gpu_limits())
    assert b.terms["products"] == pytest.approx(
        a.terms["products"] * ragged.valid_steps / (100 * 64)
    )
    assert 100 * 100 < b.ns < a.ns


def test_no_step_at_all_has_still_a_floor():
    empty = lstm(4, 2, 8, lengths="uniform:0:0")
    assert found(empty, gpu_limits()).ns >= 1300
    assert found(empty, cpu_limits()).ns >= 0


def test_a_projection_makes_the_recurrent_side_smaller():
    plain, projected = (found(lstm(10, 1, 256, proj_size=P), cpu_limits()) for P in (0, 64))
    fewer = (4 * 256 * 64 + 64 * 256) * 4
    assert projected.terms["weights from L1"] == pytest.approx(10 * (fewer - 4_000) / 800)
    assert projected.ns < plain.ns
    # Nearly as large as H, it is better multiplied into W_hh.
    nearly = found(lstm(10, 1, 256, proj_size=255), cpu_limits())
    assert nearly.terms["weights from L1"] == plain.terms["weights from L1"]


def test_heads_make_the_recurrent_side_smaller():
    of_heads = found(lstm(10, 1, 256, heads=4), cpu_limits())
    fewer = 4 * 256 * 256 * 4 // 4
    assert of_heads.terms["weights from L1"] == pytest.approx(10 * (fewer - 4_000) / 800)
    assert of_heads.ns < found(lstm(10, 1, 256), cpu_limits()).ns


def test_heads_that_fit_in_one_sm_each_synchronise_nothing():
    ceilings = gpu_limits()
    # One head of 64 units has 4 x 64 x 64 x 2 bytes, which an SM holds, and all 16 have not room.
    bytes_of_one = 4 * 64 * 64 * 2
    assert bytes_of_one < ceilings.near_bytes < 16 * bytes_of_one
    whole, of_heads = (
        found(lstm(100, 16, 1024, dtype="float16", heads=N), ceilings) for N in (1, 16)
    )
    # What is left of 100 steps is their gates, 100 ns each, and products at 800 TFLOP/s.
    products = 2 * 4 * 1024 * 64 * 100 * 16 / 800e3
    assert of_heads.terms["chain of steps"] == pytest.approx(100 * 100 + products)
    assert whole.terms["chain of steps"] > 100 * (100 + 160)


@pytest.mark.parametrize("make", [cpu_limits, gpu_limits])
@pytest.mark.parametrize("pass_name", PASSES)
def test_more_work_never_has_a_lower_floor(make, pass_name):
    ceilings = make()
    sizes = {"T": (1, 2, 64, 1024), "B": (1, 3, 64, 512), "H": (4, 64, 250, 251, 768, 4096)}
    bound = {
        point: found(lstm(*point), ceilings, pass_name).ns
        for point in itertools.product(*sizes.values())
    }
    for place, values in enumerate(sizes.values()):
        for point in bound:
            larger = [v for v in values if v > point[place]]
            for value in larger[:1]:
                more = (*point[:place], value, *point[place + 1 :])
                assert bound[more] >= bound[point], (point, more)


def test_nothing_known_gives_no_floor():
    nothing = replace(cpu_limits(), ceilings=())
    assert found(lstm(10, 1, 64), nothing) is None
    one = record(of=case())
    assert with_floor(one, nothing) == one
    assert with_floor(one, None) == one


def test_what_is_not_known_is_left_out():
    without = cpu_limits({("product", "float32 ieee"): 0.0, ("read", "L1"): 0.0})
    bound = found(lstm(10, 1, 256), without)
    assert bound.term == "weights from L2"
    assert not {"products", "weights from L1"} & set(bound.terms)


def test_a_record_gets_its_floor_and_a_warning_where_it_is_below_it():
    one = case(seq_len=10, batch=32, hidden_size=64)
    bound = found(one.problem, cpu_limits(), "forward")
    above = with_floor(record(samples_ns=(int(2 * bound.ns),), of=one), cpu_limits())
    assert (above.floor_ns, above.floor_term) == (bound.ns, "products")
    assert above.warnings == ()
    below = with_floor(record(samples_ns=(int(bound.ns / 2),), of=one), cpu_limits())
    (warning,) = below.warnings
    assert "52.43 µs is below the floor of 104.9 µs that products sets" in warning
    assert "lstm-bench limits" in warning


def test_a_failed_record_and_one_of_another_device_get_none():
    failed = record(status="crashed")
    assert with_floor(failed, cpu_limits()) == failed
    elsewhere = record(of=case(device="cuda"))
    assert with_floor(elsewhere, cpu_limits()) == elsewhere
