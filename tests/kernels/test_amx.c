/* What reaches the processor's tiles, on any x86-64: a process that has not asked for them, and one on a processor without
 * them, gets SIGILL from LDTILECFG, whose handler reads the operand from memory as the instruction would have. */
#include "tests/kernels/support.h"

#if defined(__x86_64__)
#include <signal.h>
#include <ucontext.h>

#include "kernels/cpu/tile_config.h"
#include "kernels/cpu/tile_product.h"

static hw_tile_config captured;
static volatile sig_atomic_t n_captured;

/* Numbers of registers in the order of their codes. */
static const int registers[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static int64_t displacement(const uint8_t *at, int n_bytes)
{
    int32_t word;
    memcpy(&word, at, sizeof word);
    return n_bytes == 1 ? (int8_t)*at : n_bytes == 4 ? word : 0;
}

/* The operand of a VEX instruction and its length, from the byte behind the opcode (Intel's manual, volume 2, tables
 * 2-2 and 2-3). */
static const void *operand(const uint8_t *vex, const greg_t *r, size_t *length)
{
    const uint8_t *at = vex + 4; /* C4, two bytes, the opcode */
    const int mod = *at >> 6, base_extension = vex[1] & 0x20 ? 0 : 8, index_extension = vex[1] & 0x40 ? 0 : 8;
    const int rm = *at++ & 7;
    int n_bytes = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    int64_t address = 0;
    bool of_rip = false;
    if (rm == 4) {
        const int index = (*at >> 3 & 7) + index_extension, base = *at & 7;
        if (index != 4) address += r[registers[index]] << (*at >> 6);
        if (base == 5 && mod == 0) n_bytes = 4;
        else address += r[registers[base + base_extension]];
        at++;
    } else if (rm == 5 && mod == 0) of_rip = true, n_bytes = 4;
    else address += r[registers[rm + base_extension]];
    address += displacement(at, n_bytes);
    at += n_bytes;
    *length = (size_t)(at - vex);
    if (of_rip) address += (int64_t)(uintptr_t)at;
    return (const void *)(uintptr_t)address;
}

static void on_illegal(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *at = (const uint8_t *)(uintptr_t)r[REG_RIP];
    size_t length = 0;
    if (at[0] != 0xc4 || at[3] != 0x49) _exit(100);
    if (at[4] == 0xc0) length = 5; /* TILERELEASE */
    else if ((at[2] & 3) == 0) { /* LDTILECFG */ memcpy(&captured, operand(at, r, &length), sizeof captured);
        n_captured++;
    } else _exit(101);
    r[REG_RIP] += (greg_t)length;
}

/* The 64 bytes as LDTILECFG read them, or would have. */
static hw_tile_config configuration_for(const hw_tile_product *p)
{
    struct sigaction action = {.sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO}, before;
    sigaction(SIGILL, &action, &before);
    n_captured = 0;
    hw_matrix_unit_amx.begin(p);
    if (!n_captured) hw_tile_config_store(&captured); /* nothing was asked for, and yet it is there */
    hw_matrix_unit_amx.end();
    sigaction(SIGILL, &before, NULL);
    return captured;
}

/* The handler's own arithmetic, against what an assembler made of three operands. */
Test(amx, operands_are_found_as_the_processor_finds_them)
{
    greg_t r[NGREG] = {0};
    r[REG_RSP] = 0x1000, r[REG_R9] = 0x20000;
    static const struct {
        uint8_t code[9];
        size_t length;
        uintptr_t address; /* 0: behind the instruction */
    } cases[] = {
        {{0xc4, 0xe2, 0x78, 0x49, 0x44, 0x24, 0xb8}, 7, 0x1000 - 0x48}, /* ldtilecfg -0x48(%rsp) */
        {{0xc4, 0xc2, 0x78, 0x49, 0x01}, 5, 0x20000},                   /* ldtilecfg (%r9) */
        {{0xc4, 0xa2, 0x78, 0x49, 0x84, 0x8c, 0x00, 0x01, 0x00}, 10, 0x1000 + 4 * 0x20000 + 0x100},
        {{0xc4, 0xe2, 0x78, 0x49, 0x05, 0x00, 0x00, 0x00, 0x00}, 9, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) { /* the third: 0x100(%rsp,%r9,4) */
        uint8_t code[16] = {0};
        size_t length;
        memcpy(code, cases[i].code, sizeof cases[i].code);
        const uintptr_t got = (uintptr_t)operand(code, r, &length);
        cr_assert_eq(length, cases[i].length, "case %zu", i);
        cr_assert_eq(got, cases[i].address ? cases[i].address : (uintptr_t)(code + length), "case %zu", i);
    }
}

/* Tiles 2, 3 and 5 belong to the second tile of rows, 6 and 7 are weights; see tile_loop.h. */
static const struct {
    size_t n_rows;
    bool few;
    uint8_t rows[8];
} configurations[] = {
    {100, false, {16, 16, 16, 16, 16, 16, 16, 16}}, {1, true, {1, 1, 1, 1, 1, 1, 1, 16}},
    {16, true, {16, 16, 16, 16, 16, 16, 16, 16}},   {17, true, {16, 16, 1, 1, 16, 1, 16, 16}},
    {32, true, {16, 16, 16, 16, 16, 16, 16, 16}},
};

Test(amx, configures_tiles_in_all_64_bytes)
{
    for (size_t c = 0; c < sizeof configurations / sizeof *configurations; c++) {
        const hw_tile_product p = {.n_rows = configurations[c].n_rows, .few = configurations[c].few};
        const hw_tile_config got = configuration_for(&p);
        cr_assert_eq(got.palette, 1);
        cr_assert_eq(got.start_row, 0);
        for (int i = 0; i < 14; i++) cr_assert_eq(got.reserved[i], 0);
        for (int i = 0; i < 16; i++) {
            const int rows = i < 8 ? configurations[c].rows[i] : 0;
            cr_assert_eq(got.row_bytes[i], i < 8 ? 64 : 0, "tile %d has rows of %d bytes", i,
                         got.row_bytes[i]);
            cr_assert_eq(got.rows[i], rows, "case %zu: tile %d has %d rows", c, i, got.rows[i]);
        }
    }
}
#endif
