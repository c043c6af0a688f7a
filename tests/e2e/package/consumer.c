/* The least that shows headers and library to fit together. */
#include <headway/headway.h>

#include <stdio.h>
#include <string.h>

int main(void)
{
    hw_error err = {{0}};
    hw_tokens tokens = {0};
    if (hw_tokens_push(&tokens, 7, &err)) return 1;
    hw_tokens_free(&tokens);
    hw_fail(&err, HW_ERR_MODEL, "exit code %d", hw_exit_code(HW_ERR_MODEL));
    puts(err.message);
    return strcmp(err.message, "exit code 3") != 0;
}
