#include <criterion/criterion.h>
#include <stdlib.h>

#include "launch/report/table.h"

static const hw_column columns[] = {
    {"name", "name"}, {"speed_gb", "±GB/s"}, {"empty", "empty"}, {"n", "n"}, {"hidden", NULL}};

static hw_table filled(void)
{
    hw_table t = hw_table_begin(columns, 5);
    hw_table_text(&t, "a \"b\", c");
    hw_table_text(&t, "1 ± 2");
    hw_table_text(&t, "%s", "");
    hw_table_count(&t, 1234567);
    hw_table_real(&t, 0.25);
    hw_table_text(&t, "d");
    hw_table_real(&t, 2.5);
    hw_table_text(&t, "%s", "");
    hw_table_count(&t, 8);
    hw_table_real(&t, 3);
    return t;
}

static void expect_written(void write(const hw_table *t, FILE *f), const char *want)
{
    char *text = NULL;
    size_t n;
    hw_table t = filled();
    FILE *f = open_memstream(&text, &n);
    write(&t, f);
    fclose(f);
    cr_expect_str_eq(text, want);
    hw_table_free(&t);
    free(text);
}

Test(table, text_lines_up_by_characters_and_leaves_out_empty_columns)
{
    expect_written(hw_table_write_text, "name      ±GB/s          n\n"
                                        "a \"b\", c  1 ± 2  1,234,567\n"
                                        "d           2.5          8\n");
}

Test(table, markdown_leaves_out_empty_columns)
{
    expect_written(hw_table_write_markdown, "| name | ±GB/s | n |\n"
                                            "| --- | --- | ---: |\n"
                                            "| a \"b\", c | 1 ± 2 | 1,234,567 |\n"
                                            "| d | 2.5 | 8 |\n");
}

Test(table, csv_has_every_column_and_quotes_what_needs_it)
{
    expect_written(hw_table_print_csv, "name,speed_gb,empty,n,hidden\n"
                                       "\"a \"\"b\"\", c\",1 ± 2,,1234567,0.25\n"
                                       "d,2.5,,8,3\n");
}
