/* Text to token ids and back, from a Hugging Face `tokenizer.json`.
 *
 * Byte-level BPE as GPT-2, Llama 3 and Qwen 2 use it, and SentencePiece-style BPE as Llama 2 uses it. A part
 * of the file that is not supported is refused by name when it is loaded, never ignored. A tokenizer is
 * read-only after creation and may be used by several threads at once. All functions are Local. */
#ifndef HW_RUNTIME_TOKENIZER_TOKENIZER_H
#define HW_RUNTIME_TOKENIZER_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hw_tokenizer hw_tokenizer;

/* A growing list of token ids. Plain: start with {0}; the caller frees it (hw_tokens_free). */
typedef struct hw_tokens {
    int32_t *ids;
    size_t n, capacity;
} hw_tokens;

hw_status hw_tokens_push(hw_tokens *list, int32_t id, hw_error *err); /* HW_ERR_NO_MEMORY */
void hw_tokens_free(hw_tokens *list);

/* Reads <model_folder>/tokenizer.json, and refuses it where the files beside it would make another tokenizer of it
 * (companions.h). On HW_OK the caller owns *out (hw_tokenizer_destroy). Errors: HW_ERR_MODEL naming the file and the
 * part, HW_ERR_NO_MEMORY. */
hw_status hw_tokenizer_open(hw_tokenizer **out, const char *model_folder, hw_error *err);

enum { HW_TOKENIZER_MAX_BYTES = 256 << 20 }; /* of a tokenizer.json */

/* The same from the bytes of a tokenizer.json; `name` is what messages call it. */
hw_status hw_tokenizer_create(hw_tokenizer **out, const char *json, size_t n_bytes, const char *name,
                              hw_error *err);

void hw_tokenizer_destroy(hw_tokenizer *t); /* NULL is fine */

/* Appends the tokens of `text` to *out. Special tokens written out in the text are recognised, as Hugging
 * Face does; with `add_special` the post-processor's are added too (Llama's BOS). Errors: HW_ERR_INVALID for
 * text that is not UTF-8, with the offset of the first bad byte; HW_ERR_NO_MEMORY. */
hw_status hw_tokenizer_encode(const hw_tokenizer *t, const char *text, size_t n_bytes, bool add_special,
                              hw_tokens *out, hw_error *err);

/* The text of a list of tokens, equal to Hugging Face's `decode`. On HW_OK the caller frees *text
 * (zero-terminated, *n_bytes without the zero). Bytes that are not UTF-8 come out as U+FFFD the way the
 * tokenizer's decoder does it. With `skip_special`, special tokens give nothing.
 * Errors: HW_ERR_INVALID for an id that the tokenizer does not have. */
hw_status hw_tokenizer_decode(const hw_tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
                              char **text, size_t *n_bytes, hw_error *err);

size_t hw_tokenizer_n_ids(const hw_tokenizer *t);            /* largest id + 1 */
bool hw_tokenizer_has_id(const hw_tokenizer *t, int32_t id); /* ids may have gaps */
bool hw_tokenizer_is_special(const hw_tokenizer *t, int32_t id);
int32_t hw_tokenizer_id(const hw_tokenizer *t,
                        const char *token); /* by its content in the file; -1 when there is none */
const char *hw_tokenizer_content(const hw_tokenizer *t, int32_t id,
                                 size_t *n_bytes); /* as in the file; NULL for a gap */

/* ---- streaming: tokens in, text out as soon as it is certain, never half a UTF-8 character. The
 * pieces joined equal hw_tokenizer_decode of all the tokens. */
typedef struct hw_text_stream hw_text_stream;

hw_status hw_text_stream_create(hw_text_stream **out, const hw_tokenizer *t, bool skip_special,
                                hw_error *err);
void hw_text_stream_destroy(hw_text_stream *s); /* NULL is fine */

/* Text that this token made certain: borrowed, valid until the next call on the stream; may be empty. */
hw_status hw_text_stream_push(hw_text_stream *s, int32_t id, const char **text, size_t *n_bytes,
                              hw_error *err);

/* What is left at the end: an unfinished character comes out as U+FFFD. */
hw_status hw_text_stream_finish(hw_text_stream *s, const char **text, size_t *n_bytes, hw_error *err);

#ifdef __cplusplus
}
#endif
#endif
