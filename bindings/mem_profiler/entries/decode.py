"""Decide where a function's start can be patched while threads run in it (x86-64).

Model: entry_plan.h explains why the sampler overwrites one instruction at most, and why by a store
into one aligned word. This module decodes instructions: pushes, zeroed registers and markers
(endbr64) may come before the overwritten one, which must be able to run elsewhere, where its
distance to code or data differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import capstone
from capstone import x86

from mem_profiler._core import lib

CODE_BYTES: int = lib.MP_PLAN_CODE_BYTES
COPY_BYTES: int = lib.MP_PLAN_COPY_BYTES
POINTS_MAX: int = lib.MP_PLAN_POINTS
JUMP_BYTES = 5
WORD_BYTES = 8

_NOTHING = {x86.X86_INS_ENDBR64, x86.X86_INS_NOP}
# Relative, but without a form for a longer distance.
_SHORT_ONLY = {
    x86.X86_INS_JRCXZ, x86.X86_INS_JECXZ, x86.X86_INS_JCXZ,
    x86.X86_INS_LOOP, x86.X86_INS_LOOPE, x86.X86_INS_LOOPNE,
}  # fmt: skip
_SCRATCH = {
    x86.X86_REG_EAX, x86.X86_REG_ECX, x86.X86_REG_EDX, x86.X86_REG_ESI, x86.X86_REG_EDI,
    x86.X86_REG_R8D, x86.X86_REG_R9D, x86.X86_REG_R10D, x86.X86_REG_R11D,
}  # fmt: skip
_END = {x86.X86_INS_RET, x86.X86_INS_RETF, x86.X86_INS_INT3, x86.X86_INS_UD2, x86.X86_INS_HLT}


@dataclass(frozen=True)
class Fixup:
    """The 4 bytes at `at` of a copy become target - (address of the copy + end)."""

    at: int
    end: int
    target: int


@dataclass(frozen=True)
class Point:
    """One instruction that the sampler can overwrite; the fields of struct mp_entry_point."""

    offset: int
    length: int
    write_bytes: int
    pushed_words: int
    copy: bytes
    fixups: tuple[Fixup, ...]


def _decoder() -> capstone.Cs:
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.detail = True
    return decoder


def _relative_jump(insn: capstone.CsInsn) -> tuple[bytes, int] | None:
    """A jump in its long form, without its distance, and its target; None: no relative jump."""
    operand = insn.operands[0] if len(insn.operands) == 1 else None
    if operand is None or operand.type != x86.X86_OP_IMM:
        return None
    code = bytes(insn.bytes)
    if code[0] in (0xEB, 0xE9):
        return b"\xe9", operand.imm
    if 0x70 <= code[0] <= 0x7F:
        return bytes([0x0F, code[0] + 0x10]), operand.imm
    if code[0] == 0x0F and 0x80 <= code[1] <= 0x8F:
        return code[:2], operand.imm
    return None


def _elsewhere(insn: capstone.CsInsn, at: int) -> tuple[bytes, tuple[Fixup, ...]] | None:
    """The instruction as it can run at offset `at` of a copy; None where it cannot."""
    groups = set(insn.groups)
    if insn.id in _END or insn.id in _SHORT_ONLY or capstone.CS_GRP_CALL in groups:
        return None
    if capstone.CS_GRP_JUMP in groups:
        jump = _relative_jump(insn)
        if jump is None:
            return None  # jmp *table(...): nothing to gain, and rare at an entry
        code, target = jump
        end = at + len(code) + 4
        return code + bytes(4), (Fixup(end - 4, end, target),)
    code = bytes(insn.bytes)
    for operand in insn.operands:
        if operand.type == x86.X86_OP_MEM and operand.mem.base == x86.X86_REG_RIP:
            if insn.encoding.disp_offset == 0 or insn.encoding.disp_size != 4:
                return None
            target = insn.address + insn.size + operand.mem.disp
            return code, (Fixup(at + insn.encoding.disp_offset, at + len(code), target),)
    return code, ()


def _is_push(insn: capstone.CsInsn) -> bool:
    if insn.id != x86.X86_INS_PUSH:
        return False
    operand = insn.operands[0]
    is_register: bool = operand.type == x86.X86_OP_REG and operand.size == 8
    return is_register and operand.reg != x86.X86_REG_RSP


def _zeroes(insn: capstone.CsInsn) -> bool:
    """Whether a register becomes 0 that no caller gets back: as its value is not read before, it is
    no argument, and this may be done twice.
    """
    if insn.id != x86.X86_INS_XOR:
        return False
    one, other = insn.operands
    same: bool = one.type == other.type == x86.X86_OP_REG and one.reg == other.reg
    return same and one.size == 4 and one.reg in _SCRATCH


def _candidates(code: bytes, address: int) -> Iterator[Point]:
    offset = pushed = 0
    copied = b""
    code = code[:CODE_BYTES]
    for insn in _decoder().disasm(code, address):
        here = address + offset
        moved = _elsewhere(insn, len(copied))
        write = min(insn.size, JUMP_BYTES, WORD_BYTES - here % WORD_BYTES)
        if (
            moved is not None
            and insn.id not in _NOTHING
            and len(copied) + len(moved[0]) <= COPY_BYTES
            and offset + JUMP_BYTES <= len(code)
        ):
            yield Point(offset, insn.size, write, pushed, copied + moved[0], moved[1])
        if _is_push(insn) or _zeroes(insn):
            pushed += insn.id == x86.X86_INS_PUSH
            copied += bytes(insn.bytes)
        elif insn.id not in _NOTHING:
            return
        offset += insn.size


def jump_targets(code: bytes, address: int) -> set[int]:
    """Targets of a function's direct jumps, as far as it decodes from its beginning."""
    decoder = _decoder()
    decoder.skipdata = True
    targets = set()
    for insn in decoder.disasm(code, address):
        if insn.id and capstone.CS_GRP_JUMP in insn.groups:
            jump = insn.operands[0] if len(insn.operands) == 1 else None
            if jump is not None and jump.type == x86.X86_OP_IMM:
                targets.add(jump.imm)
    return targets


def points(body: bytes, address: int) -> list[Point]:
    """The points at which the function with code `body` can be redirected, the freest jump first.

    Leaves out a point after the first byte when the function jumps back to it: there the copy would
    undo the pushes of an earlier pass.
    """
    found = list(_candidates(body, address))
    if any(point.offset for point in found):
        targets = jump_targets(body, address)
        found = [
            point
            for point in found
            if not any(address < target <= address + point.offset for target in targets)
        ]
    found.sort(key=lambda point: (-point.write_bytes, point.offset))
    return found[:POINTS_MAX]
