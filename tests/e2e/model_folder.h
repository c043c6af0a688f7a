/* A model folder to damage: links to the files of a sound one, in a temporary place. Writing to a file
 * replaces the link, so the sound one stays as it is. One at a time per process, which Criterion starts for
 * every test. A failure ends the test. */
#ifndef HW_TESTS_E2E_MODEL_FOLDER_H
#define HW_TESTS_E2E_MODEL_FOLDER_H

#include <stddef.h>

/* `of` is a folder below the source tree: "models/tales", "tests/vectors/llama-gqa". Returns the new folder's
 * path. What was there before goes away. */
const char *model_like(const char *of);
void remove_model(void); /* fine when there is none */

/* The path of a file in the folder; good until the fourth call after this one. */
const char *in_model(const char *file);

/* The first `from` in the file, which must be there, becomes `to`. In a safetensors file this edits the
 * header, and its length in front follows; the tensors' bytes stay. */
void replace_in(const char *file, const char *from, const char *to);

void write_in_model(const char *file, const void *bytes, size_t n_bytes);
void write_text_in_model(const char *file, const char *text);
void cut_in_model(const char *file, size_t n_bytes);    /* only so many bytes stay */
void append_in_model(const char *file, size_t n_zeros); /* zero bytes at the end */
void remove_in_model(const char *file);

/* {"a":{"a":...}} of so many levels, in memory; the caller frees it. */
char *nested_json(int levels);

#endif
