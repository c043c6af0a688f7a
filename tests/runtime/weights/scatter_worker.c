/* Rank 0's file ends while it sends weights from it: on as many ranks as it is started on. test_scattered_load.c starts it.
 *
 *   scatter_worker FILE SHARE   FILE is a copy of models/tales' weights; it is cut to that share of its size, in percent, between its
 *                               opening and its reading. 100: it is whole
 *
 * Exit code 0 when all ranks hold the same status and, the ranks being in step, the next message arrives; rank 0 prints the message. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/model.h"
#include "runtime/weights/weights.h"

static const char *const model_folder = HW_SOURCE_DIR "/models/tales";

static hw_status open_and_cut(hw_checkpoint **c, const char *file, int percent, hw_error *err)
{
    struct stat info;
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", file);
    *strrchr(folder, '/') = '\0';
    hw_status st = hw_checkpoint_open(c, folder, err);
    if (!st && (stat(file, &info) || truncate(file, info.st_size * percent / 100)))
        st = hw_fail(err, HW_ERR_FAILED, "%s: cannot cut", file);
    return st;
}

int main(int argc, char **argv)
{
    hw_error err = {.rank = -1};
    hw_comm *comm;
    hw_device *device;
    hw_model m;
    hw_shard shard;
    hw_weights *w = NULL;
    hw_checkpoint *c = NULL;
    if (argc != 3 || hw_comm_create(&comm, "mpi", &err) || hw_model_open(&m, model_folder, &err) ||
        hw_cpu_device_create(&device, 1, NULL, &err) ||
        hw_shard_create(&shard, &m, hw_comm_rank(comm), hw_comm_n_ranks(comm), &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 2;
    }
    const int rank = hw_comm_rank(comm), percent = atoi(argv[2]);
    const hw_load_options options = {.format = hw_format_plain(HW_BF16), .comm = comm};
    hw_status st = hw_comm_agree(comm, rank ? HW_OK : open_and_cut(&c, argv[1], percent, &err), &err);
    if (!st) st = hw_comm_agree(comm, hw_weights_load(&w, device, &m, &shard, c, &options, &err), &err);
    uint64_t after = rank ? 0 : 4711;
    hw_error other = {.rank = -1};
    const hw_status in_step =
        hw_comm_broadcast(comm, (hw_tag){.site = HW_SITE_CONTROL}, &after, sizeof after, 0, &other);
    int bad = in_step || after != 4711 || (percent == 100) != (st == HW_OK) || (st && st != HW_ERR_MODEL) ||
              (w && st && !rank);
    if (bad)
        fprintf(stderr, "rank %d: status %d, %s; then %d, %llu\n", rank, st, err.message, in_step,
                (unsigned long long)after);
    if (!rank) printf("%s\n", st ? err.message : "loaded");
    hw_weights_destroy(w);
    hw_checkpoint_close(c);
    hw_device_destroy(device);
    hw_comm_destroy(comm);
    return bad;
}
