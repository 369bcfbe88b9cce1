/*
 * launch_app.cc - a program on Ascend that launches kernels and runs operators of ATB, as the lines of its input say;
 * it prints the result of each.
 *
 * Lines, where R is a register (0..63), texts are in hexadecimal digits, S is the number of a stream: set DEVICE |
 * malloc R SIZE | free R | function R NAME | entry R NAME (looked up by its entry, not by its name) | stub R NAME |
 * launch HOW R S, HOW one of plain, v2, config, host, rt, rtv3, stub, flag | aicpu NAME S | whole S |
 * threads N TIMES R | operator NAME WORKSPACE KERNEL... (its input is register 0, its output register 1; WORKSPACE in
 * bytes at register 2) | many NAME TENSORS | graph NAME NODE... (each with a kernel of that name) | broken NAME | fork |
 * exit STATUS
 */
#include "atb.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#define REGISTERS 64

static void *registers[REGISTERS];
static uint64_t sizes[REGISTERS];
static char stubs[REGISTERS]; /* addresses that stand for functions */

static std::string unhex(const std::string &hex) {
    std::string text;
    for (size_t i = 0; i + 1 < hex.size(); i += 2)
        text.push_back((char)std::stoi(hex.substr(i, 2), nullptr, 16));
    return text;
}

static int launch(const std::string &how, unsigned r, uintptr_t s) {
    void *f = registers[r], *stream = (void *)s;
    int64_t args[2] = {1, 2};
    if (how == "plain")
        return aclrtLaunchKernel(f, 8, args, sizeof args, stream);
    if (how == "v2")
        return aclrtLaunchKernelV2(f, 8, args, sizeof args, nullptr, stream);
    if (how == "config")
        return aclrtLaunchKernelWithConfig(f, 8, stream, nullptr, nullptr, nullptr);
    if (how == "host")
        return aclrtLaunchKernelWithHostArgs(f, 8, stream, nullptr, args, sizeof args, nullptr, 0);
    if (how == "rt")
        return rtLaunchKernelByFuncHandleV2(f, 8, nullptr, stream, nullptr);
    if (how == "rtv3")
        return rtLaunchKernelByFuncHandleV3(f, 8, nullptr, stream, nullptr);
    if (how == "stub")
        return rtKernelLaunch(&stubs[r], 8, args, sizeof args, nullptr, stream);
    if (how == "flag")
        return rtKernelLaunchWithFlagV2(&stubs[r], 8, nullptr, nullptr, stream, 0, nullptr);
    return -2;
}

static int threads(unsigned n, unsigned times, unsigned r) {
    std::vector<std::thread> all;
    for (unsigned i = 0; i < n; i++)
        all.emplace_back([=] {
            aclrtSetDevice((int32_t)(i % 2));
            for (unsigned k = 0; k < times; k++)
                launch("plain", r, i);
        });
    for (std::thread &t : all)
        t.join();
    return 0;
}

static atb::Tensor tensor(unsigned r) {
    atb::Tensor t;
    t.deviceData = registers[r];
    t.dataSize = sizes[r];
    t.desc.dtype = atb::ACL_FLOAT16;
    t.desc.shape.dimNum = 2;
    t.desc.shape.dims[0] = 2;
    t.desc.shape.dims[1] = (int64_t)sizes[r] / 4;
    return t;
}

static int run(atb::Operation &operation, atb::RunnerVariantPack &pack) {
    operation.Setup();
    return operation.Execute(pack);
}

static int run_operator(std::istringstream &words) {
    std::string name, kernel;
    atb::RunnerVariantPack pack;
    std::vector<std::string> kernels;
    words >> name >> pack.workspaceBufferSize;
    while (words >> kernel)
        kernels.push_back(unhex(kernel));
    pack.inTensors.push_back(tensor(0));
    pack.outTensors.push_back(tensor(1));
    pack.workspaceBuffer = (uint8_t *)registers[2];
    pack.intermediateBufferSize = 5;
    atb::Operation operation(unhex(name), std::unique_ptr<atb::Runner>(
                                              new atb::OpsRunner("OpsRunner", kernels)));
    return run(operation, pack);
}

static int run_many(std::istringstream &words) {
    std::string name;
    unsigned count = 0;
    atb::RunnerVariantPack pack;
    words >> name >> count;
    for (unsigned i = 0; i < count; i++)
        pack.inTensors.push_back(tensor(i % 2));
    atb::Operation operation(unhex(name),
                             std::unique_ptr<atb::Runner>(new atb::OpsRunner("OpsRunner", {})));
    return run(operation, pack);
}

static int run_graph(std::istringstream &words) {
    std::string name, node;
    words >> name;
    std::unique_ptr<atb::GraphRunner> graph(new atb::GraphRunner("GraphRunner"));
    while (words >> node)
        graph->Add(unhex(node), std::unique_ptr<atb::Runner>(
                                    new atb::OpsRunner("OpsRunner", {unhex(node)})));
    atb::RunnerVariantPack pack;
    atb::Operation operation(unhex(name), std::move(graph));
    return run(operation, pack);
}

/* A list that claims to have more than it has room for, as one of another release may look. */
static int run_broken(std::istringstream &words) {
    std::string name;
    words >> name;
    atb::RunnerVariantPack pack;
    pack.inTensors.push_back(tensor(0));
    ((size_t *)(void *)&pack.inTensors)[1] = atb::DEFAULT_SVECTOR_SIZE + 1;
    atb::Operation operation(unhex(name),
                             std::unique_ptr<atb::Runner>(new atb::OpsRunner("OpsRunner", {})));
    return run(operation, pack);
}

static int forked() {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        return 0;
    int status = 0;
    waitpid(child, &status, 0);
    exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
}

static int obey(const std::string &line) {
    std::istringstream words(line);
    std::string word, text;
    unsigned r = 0;
    uint64_t n = 0, m = 0;
    words >> word;
    if (word == "launch" && words >> text >> r >> n)
        return launch(text, r % REGISTERS, n);
    if (word == "aicpu" && words >> text >> n)
        return rtAicpuKernelLaunchExWithArgs(0, unhex(text).c_str(), 1, nullptr, nullptr, (void *)n,
                                             0);
    if (word == "operator")
        return run_operator(words);
    if (word == "many")
        return run_many(words);
    if (word == "graph")
        return run_graph(words);
    if (word == "broken")
        return run_broken(words);
    if (word == "fork")
        return forked();
    if (word == "function" && words >> r >> text)
        return aclrtBinaryGetFunction(nullptr, unhex(text).c_str(), &registers[r % REGISTERS]);
    if (word == "entry" && words >> r >> text)
        return aclrtBinaryGetFunctionByEntry(nullptr, (uint64_t)(uintptr_t)unhex(text).c_str(),
                                             &registers[r % REGISTERS]);
    if (word == "stub" && words >> r >> text)
        return rtFunctionRegister(nullptr, &stubs[r % REGISTERS], unhex(text).c_str(), nullptr, 0);
    if (word == "malloc" && words >> r >> n) {
        sizes[r % REGISTERS] = n;
        return aclrtMalloc(&registers[r % REGISTERS], n, ACL_MEM_MALLOC_HUGE_FIRST);
    }
    if (word == "free" && words >> r)
        return aclrtFree(registers[r % REGISTERS]);
    words >> n >> m >> r;
    if (word == "set")
        return aclrtSetDevice((int32_t)n);
    if (word == "whole")
        return rtKernelLaunchWithHandleV2(&stubs[0], 7, 1, nullptr, nullptr, (void *)n, nullptr);
    if (word == "threads")
        return threads((unsigned)n, (unsigned)m, r % REGISTERS);
    if (word == "exit")
        _exit((int)n);
    return -2;
}

int main() {
    char line[1 << 16];
    setvbuf(stdin, nullptr, _IONBF, 0);
    while (fgets(line, sizeof line, stdin) != nullptr) {
        int rc = obey(line);
        printf("%d\n", rc);
        fflush(stdout);
    }
    return 0;
}
