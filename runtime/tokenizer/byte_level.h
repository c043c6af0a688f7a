/* The byte-level alphabet of GPT-2: every byte has a printable character, so that any text can be written
 * in a vocabulary of strings. Printable Latin-1 characters stand for themselves, the other 68 bytes for
 * U+0100 onwards. */
#ifndef HW_RUNTIME_TOKENIZER_BYTE_LEVEL_H
#define HW_RUNTIME_TOKENIZER_BYTE_LEVEL_H

#include <stdint.h>

/* Local. The character of a byte, and the byte of a character: -1 when it is not in the alphabet. */
uint32_t hw_byte_char(uint8_t byte);
int hw_byte_of_char(uint32_t cp);

#endif
