#include "runtime/tokenizer/byte_level.h"

#include <stdbool.h>

static bool stands_for_itself(uint32_t cp)
{
    return (cp >= 0x21 && cp <= 0x7E) || (cp >= 0xA1 && cp <= 0xAC) || (cp >= 0xAE && cp <= 0xFF);
}

/* The others in order: 0x00 to 0x20, 0x7F to 0xA0, 0xAD. */
uint32_t hw_byte_char(uint8_t byte)
{
    if (stands_for_itself(byte)) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    return byte == 0xAD ? 0x143u : 0x121u + (byte - 0x7Fu);
}

int hw_byte_of_char(uint32_t cp)
{
    if (stands_for_itself(cp)) return (int)cp;
    if (cp >= 0x100 && cp <= 0x120) return (int)(cp - 0x100);
    if (cp >= 0x121 && cp <= 0x142) return (int)(cp - 0x121 + 0x7F);
    return cp == 0x143 ? 0xAD : -1;
}
