"""Collectives of a program's text; the lines are of libtpu's, shortened."""

import pytest

from gan_seg_jax.planning import hlo

TEXT = """
HloModule jit_train_step
  %all-reduce.7 = f32[64]{0:T(128)S(1)} all-reduce(%fusion.1), channel_id=1, replica_groups=[1,8]<=[8], use_global_device_ids=true, to_apply=%add, metadata={op_name="jit(train_step)/jvp(UNet)/norm/batch/reduce_sum"}
  %all-reduce.8 = (bf16[3,3,16,32]{3,2,1,0}, f32[]{:T(128)}) all-reduce(%a, %b), replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add
  %ag = (f32[4,2]{1,0}, f32[32,2]{1,0}, u32[]) all-gather-start(%c), replica_groups=mesh['data'=4,'model'=2] {'data'}, dimensions={0}
  %done = f32[32,2]{1,0} all-gather-done(%ag)
  %cp = u8[5,3]{1,0} collective-permute(%d), source_target_pairs={{0,1},{1,2},{2,0}}
  %fusion.1 = f32[64]{0} fusion(%all-reduce.7), kind=kLoop, calls=%computation
"""  # noqa: E501


def test_kind_size_and_chips_of_each_collective():
    found = hlo.collectives(TEXT)
    assert [(each.kind, each.bytes, each.participants) for each in found] == [
        ("all-reduce", 64 * 4, 8),
        ("all-reduce", 3 * 3 * 16 * 32 * 2 + 4, 8),
        ("all-gather", 32 * 2 * 4, 4),  # what comes out, without what goes in
        ("collective-permute", 15, 3),
    ]
    assert found[0].name == "jit(train_step)/jvp(UNet)/norm/batch/reduce_sum"
    assert (found[1].dtypes, found[1].shapes) == (("bf16", "f32"), ((3, 3, 16, 32), ()))


def test_a_reduce_scatter_sends_what_goes_in():
    made = "  %rs = f32[16,3]{1,0} reduce-scatter(f32[128,3]{1,0} %x), replica_groups=[1,8]<=[8], dimensions={0}"
    (found,) = hlo.collectives(made)
    assert (found.bytes, found.participants) == (128 * 3 * 4, 8)


PROGRAM = """
%fused (p: f32[3,4]) -> f32[3,4] {
  %p = f32[3,4]{1,0:T(4,128)} parameter(0)
  ROOT %inside = f32[3,4]{1,0:T(4,128)} negate(%p)
}

%body (state: f32[8]) -> f32[8] {
  %state = f32[8]{0} parameter(0)
  ROOT %twice = f32[8]{0} add(%state, %state)
}

ENTRY %main (a: f32[3,4], b: bf16[300,2]) -> f32[3,4] {
  %a = f32[3,4]{1,0:T(4,128)} parameter(0)
  %b = bf16[300,2]{0,1:T(8,128)(2,1)} parameter(1)
  %kept = f32[3,4]{1,0:T(4,128)S(1)} fusion(%a), kind=kLoop, calls=%fused
  %copy-start = (bf16[300,2]{0,1:T(8,128)(2,1)S(1)}, bf16[300,2]{0,1:T(8,128)(2,1)}, u32[]{:S(2)}) copy-start(%b)
  %copy-done = bf16[300,2]{0,1:T(8,128)(2,1)S(1)} copy-done(%copy-start)
  %pieces = f32[6,4]{1,0} custom-call(%kept, %kept), custom_call_target="ConcatBitcast"
  %loop = f32[8]{0} while(%other), condition=%condition, body=%body
  ROOT %out = (f32[3,4]{1,0:T(4,128)}, f32[]{:T(128)}) fusion(%kept, %copy-done, %a), kind=kLoop, calls=%fused2
}
"""


def test_traffic_is_what_goes_to_and_from_the_memory_in_whole_tiles():
    tile = 4 * 128 * 4  # of 3 x 4 numbers
    copied = 8 * (3 * 128) * 2  # 300 x 2, its first axis the innermost one
    found = hlo.traffic(PROGRAM)
    assert found.moved == tile + copied + 3 * 8 * 4 + (tile + 128 * 4 + tile)
    assert found.numbers == 12 * 4 + 600 * 2 + 3 * 8 * 4 + (12 * 4 + 4 + 12 * 4)


def test_a_program_for_one_chip_has_none():
    assert hlo.collectives("%fusion.1 = f32[64]{0} fusion(%all-reduce.7), kind=kLoop") == []


@pytest.mark.parametrize(
    ("dtype", "size"), [("pred", 1), ("s4", 0.5), ("f8e4m3fn", 1), ("bf16", 2), ("u32", 4), ("f64", 8), ("c64", 8)]
)
def test_bytes_of_each_kind_of_number(dtype, size):
    assert hlo.Collective("all-reduce", "", (dtype,), ((10,),), 8).bytes == 10 * size
