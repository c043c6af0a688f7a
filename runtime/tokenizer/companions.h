/* The files beside tokenizer.json that make another tokenizer of it in transformers: tokenizer_config.json and
 * added_tokens.json. */
#ifndef HW_RUNTIME_TOKENIZER_COMPANIONS_H
#define HW_RUNTIME_TOKENIZER_COMPANIONS_H

#include "runtime/tokenizer/tokenizer.h"

/* Local. Refuses a folder whose other files add tokens that tokenizer.json does not have as added ones, or ask for a blank
 * in front of a text where tokenizer.json puts none, or the other way round. Either file may be missing. Errors:
 * HW_ERR_MODEL naming the file and the key or token, HW_ERR_NO_MEMORY. */
hw_status hw_tokenizer_check_companions(const hw_tokenizer *t, const char *folder, hw_error *err);

#endif
