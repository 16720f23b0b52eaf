/* AMX on a CPU without it: what the instructions that numba_cpu's kernels have do, after SIGILL.

   Loaded into a process, `emulate_amx` has every such instruction done here by its definition in
   Intel's Instruction Set Reference. A tile's rows and bytes are those that ldtilecfg gave. Each
   thread has tiles of its own. Any other instruction that the CPU does not have ends the process. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum { TILES = 8, ROWS = 16, BYTES = 64 };

static __thread struct {
    uint8_t memory[TILES][ROWS][BYTES];
    uint16_t bytes[TILES];
    uint8_t rows[TILES];
    int configured;
} amx;

static void need(int holds) {
    if (!holds) abort();
}

static int64_t number_of(const uint8_t *at, int size) {
    if (size == 1) return (int8_t)*at;
    int32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* What general registers are called in a context, by their numbers in an instruction. */
static const int REGISTERS[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                  REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                  REG_R12, REG_R13, REG_R14, REG_R15};

struct place {
    uint8_t *base;
    int64_t stride;
    int length;
};

/* The memory that an instruction names: ModRM, perhaps a SIB, and a distance. */
static struct place place_of(const uint8_t *modrm, int x, int b, const greg_t *registers) {
    int mode = modrm[0] >> 6, low = modrm[0] & 7;
    const uint8_t *next = modrm + 1;
    struct place found = {0};
    need(mode != 3);
    if (low == 4) {
        int sib = *next++, index = (sib >> 3 & 7) | x << 3;
        if (index != 4) found.stride = registers[REGISTERS[index]] << (sib >> 6);
        low = sib & 7;
        need(mode != 0 || low != 5);
        found.base = (uint8_t *)registers[REGISTERS[low | b << 3]];
    } else if (mode == 0 && low == 5) {
        /* A distance from the next instruction's address. */
        found.base = (uint8_t *)next + 4 + number_of(next, 4);
        found.length = 5;
        return found;
    } else {
        found.base = (uint8_t *)registers[REGISTERS[low | b << 3]];
    }
    int size = mode == 1 ? 1 : mode == 2 ? 4 : 0;
    if (size) found.base += number_of(next, size);
    found.length = (int)(next - modrm) + size;
    return found;
}

static void configure(const uint8_t *table) {
    need(table[0] == 1 && table[1] == 0);
    memset(&amx, 0, sizeof amx);
    for (int tile = 0; tile < TILES; tile++) {
        memcpy(&amx.bytes[tile], table + 16 + 2 * tile, 2);
        amx.rows[tile] = table[48 + tile];
        need(amx.bytes[tile] <= BYTES && amx.rows[tile] <= ROWS);
    }
    amx.configured = 1;
}

static float from_bfloat16(const uint8_t *at) {
    uint32_t bits = (uint32_t)(at[0] | at[1] << 8) << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* tdpbf16ps: sums of even and of odd elements apart, both added at the end. */
static void multiply(int to, int left, int right) {
    need(amx.rows[to] == amx.rows[left] && amx.bytes[to] == amx.bytes[right]);
    need(amx.bytes[left] / 4 == amx.rows[right]);
    for (int m = 0; m < amx.rows[to]; m++)
        for (int n = 0; n < amx.bytes[to] / 4; n++) {
            float sums[2] = {0, 0}, total;
            for (int k = 0; k < amx.bytes[left] / 4; k++)
                for (int half = 0; half < 2; half++)
                    sums[half] += from_bfloat16(&amx.memory[left][m][4 * k + 2 * half]) *
                                  from_bfloat16(&amx.memory[right][k][4 * n + 2 * half]);
            memcpy(&total, &amx.memory[to][m][4 * n], sizeof total);
            total += sums[0] + sums[1];
            memcpy(&amx.memory[to][m][4 * n], &total, sizeof total);
        }
}

static void on_illegal(int signal, siginfo_t *told, void *context) {
    (void)signal, (void)told;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *at = (const uint8_t *)registers[REG_RIP];
    /* A VEX prefix of three bytes for map 0F38; its bits for registers are upside down. */
    need(at[0] == 0xC4 && (at[1] & 31) == 2 && (at[2] & 0x84) == 0);
    int r = !(at[1] >> 7 & 1), x = !(at[1] >> 6 & 1), b = !(at[1] >> 5 & 1);
    int third = ~(at[2] >> 3) & 15, prefix = at[2] & 3, length = 5;
    const uint8_t *modrm = at + 4;
    int tile = modrm[0] >> 3 & 7, other = modrm[0] & 7;
    need(!r);
    if (at[3] == 0x49 && prefix == 0 && modrm[0] == 0xC0) { /* tilerelease */
        memset(&amx, 0, sizeof amx);
    } else if (at[3] == 0x49 && prefix == 0) { /* ldtilecfg */
        struct place memory = place_of(modrm, x, b, registers);
        configure(memory.base);
        length = 4 + memory.length;
    } else {
        need(amx.configured);
        if (at[3] == 0x49 && prefix == 3 && modrm[0] >> 6 == 3) { /* tilezero */
            memset(amx.memory[tile], 0, sizeof amx.memory[tile]);
        } else if (at[3] == 0x4B && prefix >= 2) { /* tileloadd, tilestored */
            struct place memory = place_of(modrm, x, b, registers);
            int loads = prefix == 3;
            if (loads) memset(amx.memory[tile], 0, sizeof amx.memory[tile]);
            for (int row = 0; row < amx.rows[tile]; row++) {
                uint8_t *there = memory.base + row * memory.stride;
                if (loads) memcpy(amx.memory[tile][row], there, amx.bytes[tile]);
                else memcpy(there, amx.memory[tile][row], amx.bytes[tile]);
            }
            length = 4 + memory.length;
        } else {
            need(at[3] == 0x5C && prefix == 2 && modrm[0] >> 6 == 3); /* tdpbf16ps */
            multiply(tile, other, third);
        }
    }
    registers[REG_RIP] += length;
}

void emulate_amx(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_illegal;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    need(!sigaction(SIGILL, &action, NULL));
}
