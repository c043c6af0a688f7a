#include "runtime/weights/checkpoint.h"

#include <sys/stat.h>

#include "tests/runtime/weights/checkpoint_files.h"

#define INDEX "model.safetensors.index.json"

static hw_error err;

TestSuite(checkpoint, .init = make_folder, .fini = remove_folder);

static hw_checkpoint *open_folder(const char *folder)
{
    hw_checkpoint *c;
    err.message[0] = '\0';
    hw_status st = hw_checkpoint_open(&c, folder, &err);
    cr_assert_eq(st, c ? HW_OK : HW_ERR_MODEL, "%s", err.message);
    return c;
}

static void assert_refused(const char *because)
{
    cr_assert_null(open_folder(test_folder), "%s", because);
    cr_assert_not_null(strstr(err.message, because), "%s", err.message);
    cr_assert_not_null(strstr(err.message, test_folder), "%s", err.message);
}

/* A file with byte tensors of 3 bytes each: "a,b" holds a at 0 and b at 3. */
static void write_file(const char *name, const char *tensors)
{
    char header[1024], *p = header;
    int n = 0;
    p += sprintf(p, "{");
    for (const char *t = tensors; *t; t += strcspn(t, ","), t += *t == ',', n++)
        p += sprintf(p, "%s\"%.*s\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[%d,%d]}", n ? "," : "",
                     (int)strcspn(t, ","), t, 3 * n, 3 * n + 3);
    sprintf(p, "}");
    write_safetensors(name, header, 3 * (size_t)n);
}

static void write_two_files(void)
{
    write_file("model-00001-of-00002.safetensors", "b,a");
    write_file("model-00002-of-00002.safetensors", "c");
}

#define ONE          "\"model-00001-of-00002.safetensors\""
#define TWO          "\"model-00002-of-00002.safetensors\""
#define MAP(ENTRIES) "{\"metadata\":{\"total_size\":1},\"weight_map\":{" ENTRIES "}}"

Test(checkpoint, a_single_file_is_read_and_its_bytes_are_counted)
{
    write_file("model.safetensors", "x,y");
    hw_checkpoint *c = open_folder(test_folder);
    cr_assert_not_null(c, "%s", err.message);
    cr_assert_eq(hw_checkpoint_n_files(c), 1);
    cr_assert_eq(hw_checkpoint_n_tensors(c), 2);
    cr_assert_eq(hw_checkpoint_total_bytes(c), 6);
    hw_tensor y = hw_checkpoint_find(c, "y");
    cr_assert_not_null(y.info);
    unsigned char bytes[3];
    cr_assert_eq(hw_checkpoint_read(c, y, 1, 2, bytes, &err), HW_OK);
    cr_assert(bytes[0] == 4 && bytes[1] == 5);
    cr_assert_eq(hw_checkpoint_read(c, hw_checkpoint_find(c, "x"), 0, 3, bytes, &err), HW_OK);
    cr_assert(bytes[0] == 0 && bytes[2] == 2);
    cr_assert_eq(hw_checkpoint_bytes_read(c), 5);
    cr_assert_eq(hw_checkpoint_read(c, y, 2, 2, bytes, &err), HW_ERR_INVALID);
    cr_assert_eq(hw_checkpoint_bytes_read(c), 5);
    cr_assert_null(hw_checkpoint_find(c, "z").info);
    hw_checkpoint_close(c);
    hw_checkpoint_close(NULL);
}

Test(checkpoint, several_files_are_one_list_of_tensors)
{
    write_two_files();
    write_text(INDEX, MAP("\"a\":" ONE ",\"c\":" TWO ",\"b\":" ONE));
    hw_checkpoint *c = open_folder(test_folder);
    cr_assert_not_null(c, "%s", err.message);
    cr_assert_eq(hw_checkpoint_n_files(c), 2);
    cr_assert_eq(hw_checkpoint_total_bytes(c), 9);
    const char *order[] = {"b", "a", "c"}; /* file by file, in file order */
    const unsigned char first[] = {0, 3, 0};
    cr_assert_eq(hw_checkpoint_n_tensors(c), 3);
    for (size_t i = 0; i < 3; i++) {
        unsigned char byte = 99;
        hw_tensor t = hw_checkpoint_at(c, i);
        cr_assert_str_eq(t.info->name, order[i]);
        cr_assert_eq(hw_checkpoint_find(c, order[i]).info, t.info);
        cr_assert_eq(hw_checkpoint_read(c, t, 0, 1, &byte, &err), HW_OK);
        cr_assert_eq(byte, first[i]);
    }
    cr_assert_eq(hw_checkpoint_bytes_read(c), 3);
    hw_checkpoint_close(c);
}

Test(checkpoint, the_index_counts_where_there_is_a_single_file_too)
{
    write_two_files();
    write_file("model.safetensors", "old");
    write_text(INDEX, MAP("\"a\":" ONE ",\"c\":" TWO ",\"b\":" ONE));
    hw_checkpoint *c = open_folder(test_folder);
    cr_assert_not_null(c, "%s", err.message);
    cr_assert_null(hw_checkpoint_find(c, "old").info);
    hw_checkpoint_close(c);
}

/* Hugging Face's cache: models--x/snapshots/<revision>/ holds links into models--x/blobs/. */
Test(checkpoint, links_of_the_hub_cache_are_followed)
{
    mkdir(in_folder("blobs"), 0700);
    mkdir(in_folder("snapshots"), 0700);
    mkdir(in_folder("snapshots/1a2b"), 0700);
    write_file("blobs/aa", "a,b");
    write_text("blobs/bb", MAP("\"a\":" ONE ",\"b\":" ONE));
    cr_assert_eq(symlink("../../blobs/aa", in_folder("snapshots/1a2b/model-00001-of-00002.safetensors")), 0);
    cr_assert_eq(symlink("../../blobs/bb", in_folder("snapshots/1a2b/" INDEX)), 0);
    hw_checkpoint *c = open_folder(in_folder("snapshots/1a2b/"));
    cr_assert_not_null(c, "%s", err.message);
    cr_assert_eq(hw_checkpoint_n_tensors(c), 2);
    hw_checkpoint_close(c);
    unlink(in_folder("blobs/aa"));
    cr_assert_null(open_folder(in_folder("snapshots/1a2b")));
    cr_assert_not_null(strstr(err.message, "a link to a file that is not there"), "%s", err.message);
}

Test(checkpoint, an_index_that_names_files_outside_the_folder_is_refused)
{
    write_file("model.safetensors", "a");
    const char *names[] = {"../model.safetensors",
                           "/etc/passwd",
                           "sub/model.safetensors",
                           "..\\\\x",
                           "..",
                           ".",
                           "",
                           ".hidden",
                           "a..b",
                           "./model.safetensors",
                           "model.safetensors\\u0000",
                           "\\u0000"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char text[256];
        snprintf(text, sizeof text, "{\"weight_map\":{\"a\":\"%s\"}}", names[i]);
        write_text(INDEX, text);
        assert_refused("wanted the plain name of a file in the same folder");
        cr_assert_not_null(strstr(err.message, INDEX ": weight_map: \"a\""), "%s", err.message);
    }
}

Test(checkpoint, an_index_that_disagrees_with_its_files_is_refused)
{
    write_two_files();
    write_text(INDEX, MAP("\"a\":" ONE ",\"b\":" ONE ",\"c\":" TWO ",\"d\":" TWO));
    assert_refused("tensor \"d\" is said to be in model-00002-of-00002.safetensors, but is not there");
    write_text(INDEX, MAP("\"a\":" ONE ",\"c\":" TWO));
    assert_refused("tensor \"b\" of model-00001-of-00002.safetensors is not in the index");
    write_text(INDEX, MAP("\"a\":" ONE ",\"b\":" TWO ",\"c\":" TWO));
    assert_refused("tensor \"b\" is said to be in model-00002-of-00002.safetensors, but "
                   "model-00001-of-00002.safetensors has one too");
    write_file("model-00002-of-00002.safetensors", "c,a");
    write_text(INDEX, MAP("\"a\":" ONE ",\"b\":" ONE ",\"c\":" TWO));
    assert_refused("tensor \"a\" is said to be in model-00001-of-00002.safetensors, but "
                   "model-00002-of-00002.safetensors has one too");
}

Test(checkpoint, an_index_of_the_wrong_form_is_refused)
{
    const char *texts[] = {"{}", "{\"weight_map\":{}}", "{\"weight_map\":[]}", "{\"weight_map\":null}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        write_text(INDEX, texts[i]);
        assert_refused("\"weight_map\" is missing or lists no tensors");
    }
    write_text(INDEX, MAP("\"a\":1"));
    assert_refused("weight_map: \"a\" is not a file name");
    write_text(INDEX, MAP("\"a\":" ONE ",\"a\":" TWO));
    assert_refused("duplicate");
    write_text(INDEX, MAP("\"a\":" ONE));
    assert_refused("model-00001-of-00002.safetensors: cannot open: No such file");
    write_text(INDEX, "");
    assert_refused("not valid JSON");
}

Test(checkpoint, a_damaged_file_is_named)
{
    write_two_files();
    write_text("model-00002-of-00002.safetensors", "PK");
    write_text(INDEX, MAP("\"a\":" ONE ",\"b\":" ONE ",\"c\":" TWO));
    assert_refused("model-00002-of-00002.safetensors: 2 bytes are too few");
}

Test(checkpoint, a_folder_that_holds_no_safetensors_is_told_by_what_it_holds)
{
    assert_refused("no weights among its 0 files");
    write_text("config.json", "{}");
    assert_refused("no weights among its 1 files");
    write_text("pytorch_model.bin", "");
    write_text("model.gguf", "");
    assert_refused("the weights are in model.gguf, but only safetensors are read");
    unlink(in_folder("model.gguf"));
    assert_refused("the weights are in pytorch_model.bin, but only safetensors are read");
    unlink(in_folder("pytorch_model.bin"));
    write_two_files();
    assert_refused("there is model-00001-of-00002.safetensors, but neither model.safetensors nor");
}

Test(checkpoint, what_is_no_folder_is_refused)
{
    cr_assert_null(open_folder(in_folder("absent")));
    cr_assert_not_null(strstr(err.message, "absent: No such file or directory; wanted the path"), "%s",
                       err.message);
    write_text("file", "");
    cr_assert_null(open_folder(in_folder("file")));
    cr_assert_not_null(strstr(err.message, "file: not a folder"), "%s", err.message);
}

/* The file holds nothing but its 8-byte length, its header and its tensors. */
Test(checkpoint, the_demo_model_opens_and_its_tensors_fill_its_file)
{
    struct stat info;
    unsigned char n[8] = {0};
    cr_assert_eq(stat(HW_SOURCE_DIR "/models/tales/model.safetensors", &info), 0);
    FILE *f = fopen(HW_SOURCE_DIR "/models/tales/model.safetensors", "rb");
    cr_assert_eq(fread(n, 1, 8, f), 8);
    fclose(f);
    hw_checkpoint *c = open_folder(HW_SOURCE_DIR "/models/tales");
    cr_assert_not_null(c, "%s", err.message);
    cr_assert_eq(hw_checkpoint_total_bytes(c) + 8 + n[0] + 256u * n[1], (uint64_t)info.st_size);
    cr_assert_not_null(hw_checkpoint_find(c, "model.norm.weight").info);
    hw_checkpoint_close(c);
}
