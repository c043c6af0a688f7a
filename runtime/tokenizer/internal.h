/* What a tokenizer is made of. */
#ifndef HW_RUNTIME_TOKENIZER_INTERNAL_H
#define HW_RUNTIME_TOKENIZER_INTERNAL_H

#include "runtime/tokenizer/added.h"
#include "runtime/tokenizer/bpe.h"
#include "runtime/tokenizer/decoder.h"
#include "runtime/tokenizer/normalizer.h"
#include "runtime/tokenizer/pretokenizer.h"
#include "runtime/tokenizer/template.h"
#include "runtime/tokenizer/tokenizer.h"

/* Text goes through: added (raw), normalizer, added (normalized), pretokenizer, bpe, template. Tokens go
 * through: vocab, decoder. */
struct hw_tokenizer {
    hw_vocab vocab;
    hw_bpe bpe;
    hw_added added;
    hw_normalizer normalizer;
    hw_pretokenizer pretokenizer;
    hw_template template;
    hw_decoder decoder;
};

#endif
