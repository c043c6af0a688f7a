/* UTF-8, the two character classes that added tokens need, and the four normal forms. */
#ifndef HW_RUNTIME_TOKENIZER_UNICODE_H
#define HW_RUNTIME_TOKENIZER_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/tokenizer/bytes.h"

#define HW_UTF8_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */
#define HW_WORD_MARK        "\xE2\x96\x81" /* U+2581, SentencePiece's "a word begins here" */

/* Local. Looks at the first character of s[0..n), n > 0. Returns its length and sets *cp; or, when it is
 * not UTF-8, minus the length of the maximal subpart that Unicode says to replace by one U+FFFD; or 0 when
 * s ends before the character does. */
int hw_utf8_step(const char *s, size_t n, uint32_t *cp);

/* Local. How many leading bytes of s are valid UTF-8: n when all are. */
size_t hw_utf8_valid_prefix(const char *s, size_t n);

/* Local. Writes `cp` and returns its length, 1 to 4. */
size_t hw_utf8_encode(uint32_t cp, char out[4]);

/* Local. Length of the character that begins with byte `lead`, in text known to be valid. */
static inline size_t hw_utf8_length(char lead)
{
    unsigned char c = (unsigned char)lead;
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

/* Local. The character that begins at s, and its length; and the one that ends at s + n. The text is valid
 * and not empty. */
size_t hw_utf8_first(const char *s, uint32_t *cp);
size_t hw_utf8_last(const char *s, size_t n, uint32_t *cp);

bool hw_is_space(uint32_t cp); /* Unicode White_Space: 25 code points */
bool hw_is_word(
    uint32_t cp); /* \w of Unicode regular expressions: Alphabetic, marks, Nd, Pc, joiners (property.c) */

typedef enum hw_normal_form { HW_NFC, HW_NFD, HW_NFKC, HW_NFKD } hw_normal_form;

/* Local. Appends the normal form of a valid text to *out, as Hugging Face's tokenizers do: characters that their tables are
 * too old for stay as they are, whatever Unicode says (normal_form_unknown.def). Takes time linear in n. Errors:
 * HW_ERR_NO_MEMORY. */
hw_status hw_normalize(hw_bytes *out, const char *text, size_t n, hw_normal_form form, hw_error *err);

#endif
