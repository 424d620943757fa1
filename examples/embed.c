/* Two requests decoded together, printed as they come.
 *
 *     cc embed.c $(pkg-config --cflags --libs lookfar) -o embed && ./embed MODEL "Once upon a time" "The little dog" */
#include <lookfar.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool print_token(void *cookie, const lf_token *token)
{
    return printf("%s%.*s\n", (const char *)cookie, (int)token->len, token->text) >=
           0; /* false would end the request */
}

int main(int argc, char **argv)
{
    lf_error err;
    lf_engine *engine = NULL;
    lf_request *requests[16] = {NULL};
    lf_engine_params params;
    lf_engine_params_init(&params);
    params.model_path = argc > 1 ? argv[1] : NULL;
    params.n_seqs = 16;
    if (lf_engine_open(&engine, &params, &err) != LF_OK) goto failed;
    for (int i = 0; i + 2 < argc && i < 16; i++) {
        lf_request_params request;
        int32_t *ids;
        lf_request_params_init(&request);
        if (lf_tokenize(engine, argv[i + 2], strlen(argv[i + 2]), true, false, &ids, &request.n_ids, &err) !=
            LF_OK)
            goto failed;
        request.ids = ids;
        request.n_predict = 40;
        request.proposer = "ngram"; /* fewer passes, the same text */
        request.on_token = print_token;
        request.cookie = i % 2 ? "                | " : "";
        const lf_status status = lf_request_submit(&requests[i], engine, &request, &err);
        free(ids);
        if (status != LF_OK) goto failed;
    }
    for (int i = 0; i < 16 && requests[i]; i++)
        if (lf_request_wait(requests[i], &err) != LF_OK) goto failed;
    for (int i = 0; i < 16; i++) lf_request_free(requests[i]);
    lf_engine_close(engine);
    return 0;
failed:
    (void)fprintf(stderr, "%s\n", err.text);
    for (int i = 0; i < 16; i++) lf_request_free(requests[i]);
    lf_engine_close(engine);
    return 1;
}
