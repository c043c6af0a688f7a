/* Continues a prompt with a model that is split over MPI ranks.
 *
 *   cc example.c $(pkg-config --cflags --libs headway) -o example
 *   mpirun -np 2 ./example models/tales "Once upon a time" */
#include <headway/headway.h>
#include <stdio.h>
#include <string.h>

static hw_status print(void *rank, const char *text, size_t n, hw_error *err)
{
    (void)err;
    if (*(int *)rank == 0) fwrite(text, 1, n, stdout), fflush(stdout); /* called on every rank; one prints */
    return HW_OK;
}

int main(int argc, char **argv)
{
    hw_error err = {.rank = -1};
    hw_comm *comm = NULL;
    hw_tokenizer *tokenizer = NULL;
    hw_engine *engine = NULL;
    hw_tokens prompt = {0};
    hw_generate_result result = {.n_prompt = 0};
    int rank = 0;
    if (argc != 3) return fprintf(stderr, "usage: example MODEL_FOLDER PROMPT\n"), 2;

    hw_engine_options options = hw_engine_defaults();
    hw_status st = hw_comm_create(&comm, "auto", &err); /* MPI under mpirun, else one rank */
    if (!st) {
        rank = hw_comm_rank(comm);
        /* This can fail on one rank alone: agree before the others wait in a collective. */
        st = hw_tokenizer_open(&tokenizer, argv[1], &err);
        if (!st) st = hw_tokenizer_encode(tokenizer, argv[2], strlen(argv[2]), true, &prompt, &err);
        st = hw_comm_agree(comm, st, &err);
    }
    if (!st) st = hw_engine_create(&engine, comm, argv[1], &options, &err);
    if (!st) {
        hw_generate_options how = {.max_new_tokens = 64,
                                   .sampling = {.temperature = 0.8f, .top_p = 0.95f, .seed = 1},
                                   .on_text = print,
                                   .user = &rank};
        st = hw_generate(engine, tokenizer, prompt.ids, (int)prompt.n, &how, &result, &err);
        if (!st && rank == 0) printf("\n");
    }
    if (st && rank == 0) fprintf(stderr, "example: %s\n", err.message);
    hw_tokens_free(&result.tokens);
    hw_tokens_free(&prompt);
    hw_engine_destroy(engine);
    hw_tokenizer_destroy(tokenizer);
    hw_comm_destroy(comm);
    return hw_exit_code(st);
}
