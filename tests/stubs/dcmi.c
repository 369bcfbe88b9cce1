/*
 * dcmi.c - a stub of Ascend's management library: two cards of one and two chips; process STUB_DCMI_PID runs on
 * the chips whose logic ids STUB_DCMI_CHIPS lists. Chip with logic id L has 100 + L MiB, of which 10 + L are used.
 */
#include <stdlib.h>
#include <string.h>

struct dcmi_hbm_info {
    unsigned long long memory_size; /* MiB */
    unsigned int freq;
    unsigned long long memory_usage; /* MiB */
    int temp;
    unsigned int bandwith_util_rate;
};

struct dcmi_proc_mem_info {
    int proc_id;
    unsigned long proc_mem_usage;
};

static int logic_of(int card, int chip) {
    return card == 7 ? 2 : chip; /* the second card is listed first, and counts last */
}

int dcmi_init(void) {
    return getenv("STUB_DCMI_BROKEN") != NULL ? -8001 : 0;
}

int dcmi_get_card_list(int *card_num, int *card_list, int list_len) {
    if (list_len < 2)
        return -8001;
    *card_num = 2;
    card_list[0] = 7;
    card_list[1] = 3;
    return 0;
}

int dcmi_get_device_num_in_card(int card_id, int *device_num) {
    *device_num = card_id == 7 ? 1 : 2;
    return 0;
}

int dcmi_get_device_logic_id(int *device_logic_id, int card_id, int device_id) {
    *device_logic_id = logic_of(card_id, device_id);
    return 0;
}

int dcmi_get_device_hbm_info(int card_id, int device_id, struct dcmi_hbm_info *info) {
    int logic = logic_of(card_id, device_id);
    *info = (struct dcmi_hbm_info){.memory_size = 100u + (unsigned)logic,
                                   .memory_usage = 10u + (unsigned)logic};
    return 0;
}

int dcmi_get_device_resource_info(int card_id, int device_id, struct dcmi_proc_mem_info *processes,
                                  int *process_num) {
    const char *pid = getenv("STUB_DCMI_PID"), *chips = getenv("STUB_DCMI_CHIPS");
    *process_num = 1;
    processes[0] = (struct dcmi_proc_mem_info){.proc_id = 1};
    if (pid != NULL && chips != NULL && strchr(chips, '0' + logic_of(card_id, device_id)) != NULL)
        processes[(*process_num)++] = (struct dcmi_proc_mem_info){.proc_id = atoi(pid)};
    return 0;
}
