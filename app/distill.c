/* lookfar distill: from a model to one that decodes several tokens per pass (CLLM). Each kind is a file of
 * this folder. */
#include "app.h"

int app_distill(int argc, char **argv)
{
    static const app_kind kinds[] = {
        {"collect", app_distill_collect, "decode prompts by Jacobi iterations and record the states"},
        {"train", app_distill_train, "train the model on what was recorded"},
        {"run", app_distill_run, "both, from a model and prompts, in rounds"},
        {"show", app_distill_show, "show what was recorded, and which token was right when"},
    };
    return app_run_kind(argc, argv, kinds, sizeof kinds / sizeof *kinds,
                        "Makes a model that decodes several tokens per pass.");
}
