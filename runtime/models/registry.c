/* The architectures that Headway knows. To add one: its file in this folder, and a line here. */
#include "runtime/model.h"

extern const hw_architecture hw_llama, hw_mistral, hw_qwen3, hw_exaone4, hw_gpt2;

const hw_architecture *const hw_architectures[] = {&hw_llama,   &hw_mistral, &hw_qwen3,
                                                   &hw_exaone4, &hw_gpt2,    NULL};
