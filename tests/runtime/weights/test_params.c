/* The table of parameters: what ranks hold of a parameter covers it, what layers hold adds up to the model, and the names
 * that architectures give belong to the rows. */
#include <criterion/criterion.h>
#include <string.h>

#include "runtime/weights/dummy.h"
#include "runtime/weights/params.h"
#include "runtime/weights/tensor_pattern.h"

static hw_model model(const char *folder)
{
    char path[4096];
    hw_model m;
    hw_error err = {.rank = -1};
    snprintf(path, sizeof path, "%s/%s", HW_SOURCE_DIR, folder);
    cr_assert_eq(hw_model_open(&m, path, &err), HW_OK, "%s", err.message);
    return m;
}

static void for_each_model(void (*check)(const hw_model *))
{
    static const char *const folders[] = {"tests/vectors/llama-gqa-uneven", "tests/vectors/llama-bias",
                                          "tests/vectors/gpt2-odd", "tests/vectors/gpt2-untied"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        const hw_model m = model(folders[i]);
        check(&m);
    }
}

static const hw_format format = {.type = HW_BF16};

static hw_shard shard_of(const hw_model *m, int rank, int n_ranks)
{
    hw_shard shard;
    cr_assert_eq(hw_shard_create(&shard, m, rank, n_ranks, NULL), HW_OK);
    return shard;
}

/* Ranges of a dimension, rank after rank, leave no gap. KV heads can be on two ranks: ranges overlap. */
static void expect_next(hw_range r, size_t *end, bool overlaps, int role)
{
    cr_expect(overlaps ? r.begin <= *end : r.begin == *end, "role %d begins at %zu, not %zu", role, r.begin,
              *end);
    *end = r.end;
}

static void expect_covered(const hw_model *m, hw_role role)
{
    const hw_param_kind *kind = hw_param_kind_of(role);
    const int n_ranks = 5;
    size_t n_out, n_in, out_end = 0, in_end = 0;
    hw_model_shape(m, role, &n_out, &n_in);
    for (int rank = 0; rank < n_ranks; rank++) {
        const hw_shard shard = shard_of(m, rank, n_ranks);
        const hw_param p = hw_param_of(m, &shard, format, role, 0);
        if (kind->split != HW_SPLIT_OUT) out_end = 0;
        if (kind->split != HW_SPLIT_IN) in_end = 0;
        expect_next(p.out, &out_end, kind->n_out == HW_DIM_KV_DIM, (int)role);
        expect_next(p.in, &in_end, false, (int)role);
        cr_expect_eq(p.cuts != NULL, kind->split == HW_SPLIT_IN);
    }
    cr_expect(out_end == n_out && in_end == n_in, "role %d ends at [%zu, %zu]", role, out_end, in_end);
}

static void expect_all_covered(const hw_model *m)
{
    for (int role = 0; role < HW_N_ROLES; role++)
        if (hw_model_has(m, (hw_role)role, 0)) expect_covered(m, (hw_role)role);
}

Test(params, ranks_cover_every_parameter) { for_each_model(expect_all_covered); }

static void expect_fields_in_order(const hw_model *m)
{
    const hw_shard shard = shard_of(m, 1, 3);
    const hw_param q = hw_param_of(m, &shard, format, HW_ROLE_WQ, 0),
                   k = hw_param_of(m, &shard, format, HW_ROLE_WK, 0),
                   v = hw_param_of(m, &shard, format, HW_ROLE_WV, 0),
                   up = hw_param_of(m, &shard, format, HW_ROLE_W_UP, 0);
    const size_t d = (size_t)m->head_dim, n_q = (size_t)shard.heads.n_heads * d,
                 n_kv = (size_t)shard.heads.n_kv_heads * d, n_ffn = hw_range_size(shard.ffn);
    cr_expect(q.first_out == 0 && k.first_out == n_q && v.first_out == n_q + n_kv);
    cr_expect(q.n_field_out == n_q + 2 * n_kv && k.n_field_out == q.n_field_out);
    cr_expect_eq(up.first_out, m->gated_mlp ? n_ffn : 0);
    cr_expect_eq(up.n_field_out, m->gated_mlp ? 2 * n_ffn : n_ffn);
}

Test(params, q_k_and_v_share_a_field_and_so_do_gate_and_up) { for_each_model(expect_fields_in_order); }

/* Adds role and layer of each parameter of layers to names [n], and returns how many there are then. */
static size_t list_layers(int names[][2], size_t n, const hw_model *m, const hw_shard *shard)
{
    hw_param p;
    for (hw_params list = hw_params_of(m, shard, format); hw_params_next(&list, &p);) {
        if (!p.kind->per_layer) continue;
        names[n][0] = (int)p.role;
        names[n++][1] = p.layer;
    }
    return n;
}

static void expect_layers_add_up(const hw_model *m)
{
    int all[256][2], parts[256][2];
    const hw_shard whole = hw_shard_whole(m);
    hw_shard first = whole, second = whole;
    first.end_layer = second.first_layer = 1;
    const size_t n = list_layers(all, 0, m, &whole);
    cr_expect_eq(list_layers(parts, list_layers(parts, 0, m, &first), m, &second), n);
    cr_expect_eq(memcmp(all, parts, n * sizeof *all), 0);
    cr_expect_eq(all[n - 1][1], m->n_layers - 1);
}

Test(params, ranges_of_layers_add_up_to_the_model) { for_each_model(expect_layers_add_up); }

/* A role without a rule could not be loaded, and without {layer} its layers would all have one tensor. */
static void expect_rules_for_roles(const hw_model *m)
{
    int n_rules[HW_N_ROLES] = {0};
    for (const hw_tensor_rule *r = m->rules; r->name; r++) {
        cr_expect_eq(strstr(r->name, "{layer}") != NULL, hw_param_kind_of(r->role)->per_layer, "%s", r->name);
        n_rules[r->role]++;
    }
    for (int role = 0; role < HW_N_ROLES; role++) {
        cr_expect(n_rules[role] <= 1, "%s: %d rules for role %d", m->architecture, n_rules[role], role);
        cr_expect(n_rules[role] || !hw_model_has(m, (hw_role)role, 0), "%s: no rule for role %d",
                  m->architecture, role);
    }
}

Test(params, every_architecture_names_a_tensor_for_every_role_that_its_models_have)
{
    for_each_model(expect_rules_for_roles);
}

/* ---- names */

static const char *const experts = "model.layers.{layer}.mlp.experts.{expert}.up_proj.weight";

Test(params, a_pattern_names_layer_and_expert)
{
    char name[64];
    hw_tensor_pattern_write(name, sizeof name, experts, (hw_tensor_index){.layer = 12, .expert = 305});
    cr_expect_str_eq(name, "model.layers.12.mlp.experts.305.up_proj.weight");
    hw_tensor_pattern_write(name, 10, experts, (hw_tensor_index){0});
    cr_expect_str_eq(name, "model.lay");
}

Test(params, a_name_is_read_back)
{
    hw_tensor_index at;
    cr_expect(hw_tensor_pattern_match(experts, "model.layers.7.mlp.experts.64.up_proj.weight", &at));
    cr_expect(at.layer == 7 && at.expert == 64);
    cr_expect(hw_tensor_pattern_match("wte.weight", "wte.weight", &at));
    cr_expect(at.layer == 0 && at.expert == 0);
}

Test(params, what_the_pattern_does_not_write_is_not_its_name)
{
    static const char *const others[] = {"",
                                         "model.layers.",
                                         "model.layers.7",
                                         "model.layers..mlp.experts.64.up_proj.weight",
                                         "model.layers.07.mlp.experts.64.up_proj.weight",
                                         "model.layers.-7.mlp.experts.64.up_proj.weight",
                                         "model.layers.9999999999.mlp.experts.64.up_proj.weight",
                                         "model.layers.7.mlp.experts.64.up_proj.weight2",
                                         "model.layers.7.mlp.experts.64.up_proj.weigh",
                                         "model.layers.{layer}.mlp.experts.{expert}.up_proj.weight"};
    hw_tensor_index at;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        cr_expect_not(hw_tensor_pattern_match(experts, others[i], &at), "%s", others[i]);
}

/* ---- dummy weights */

/* A piece of a row has the numbers that the whole row has there, wherever it begins. */
Test(params, dummy_numbers_depend_on_their_place_in_the_tensor_alone)
{
    enum { N = 3000 };
    static float whole[N], piece[N];
    const uint64_t seed = hw_dummy_seed(7, "h.0.attn.c_proj.weight");
    hw_dummy_row(whole, HW_F32, HW_DUMMY_RANDOM, seed, 5, 0, N);
    for (size_t first = 1; first < N; first += 1021) {
        hw_dummy_row(piece, HW_F32, HW_DUMMY_RANDOM, seed, 5, first, N - first);
        cr_expect_eq(memcmp(piece, whole + first, (N - first) * sizeof *piece), 0, "from %zu", first);
    }
    hw_dummy_row(piece, HW_F32, HW_DUMMY_RANDOM, seed, 6, 0, N);
    cr_expect_neq(memcmp(piece, whole, sizeof whole), 0, "another output");
    hw_dummy_row(piece, HW_F32, HW_DUMMY_ONES, seed, 5, 0, N);
    for (size_t i = 0; i < N; i++) cr_assert_eq(piece[i], 1);
}

Test(params, dummy_tensors_of_other_names_or_seeds_differ)
{
    const uint64_t seed = hw_dummy_seed(1, "h.1.ln_1.bias");
    cr_expect_eq(hw_dummy_seed(1, "h.1.ln_1.bias"), seed);
    cr_expect_neq(hw_dummy_seed(1, "h.2.ln_1.bias"), seed);
    cr_expect_neq(hw_dummy_seed(2, "h.1.ln_1.bias"), seed);
}
