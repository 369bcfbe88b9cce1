/*
 * atb.cc - a stub of ATB, libatb.so, on top of libruntime.so: the way from an operator to its kernels, and a ledger of
 * the operators that ran, their tensors and their kernels.
 */
#include "atb.h"
#include "launch_ledger.h"

namespace atb {
static int Device() {
    int32_t device = -1;
    rtGetDevice(&device);
    return device;
}

static void Note(const char *what, uint64_t a, uint64_t b, const std::string &name,
                 const std::string &detail) {
    ledger_write(what, 0, Device(), a, b, name.data(), name.size(), detail.data(), detail.size());
}

bool Probe::IsTensorNeedSave(const std::vector<int64_t> &, const std::string &) {
    return false;
}
bool Probe::IsSaveTensorDesc() {
    return false;
}
bool Probe::IsExecuteCountInRange(const uint64_t) {
    return false;
}
bool Probe::IsSaveTensorBefore() {
    return false;
}
bool Probe::IsSaveTensorAfter() {
    return false;
}
bool Probe::IsSaveTensorInSpecificDir(const std::string &) {
    return false;
}

void StoreUtil::SaveLaunchParam(aclrtStream, const Mki::LaunchParam &, const std::string &dirPath) {
    Note("saved", 0, 0, "kernel", dirPath);
}

void StoreUtil::SaveVariantPack(const RunnerVariantPack &, const std::string &dirPath) {
    Note("saved", 0, 0, "operator", dirPath);
}

Runner::Runner(const std::string &name) : tensorDir_(name), name_(name) {}

Runner::~Runner() {}

void Runner::SetRunnerInfo(const std::string &operationName,
                           const std::vector<int64_t> &operationIds) {
    operationName_ = operationName;
    runnerIds_ = operationIds;
    saveTensorFlag_ = Probe::IsTensorNeedSave(runnerIds_, operationName_);
}

void Runner::SetSaveTensorDir(const std::string &tensorDir) {
    tensorDir_ = tensorDir;
}

bool Runner::IsSaveTensor() const {
    return Probe::IsExecuteCountInRange(executeCount_) && saveTensorFlag_ &&
           Probe::IsSaveTensorInSpecificDir(tensorDir_);
}

static std::string Shape(const Tensor &t) {
    std::string text = std::to_string(t.desc.dtype) + " " + std::to_string(t.desc.format);
    for (uint64_t i = 0; i < t.desc.shape.dimNum; i++)
        text += " " + std::to_string(t.desc.shape.dims[i]);
    return text;
}

Status Runner::Execute(RunnerVariantPack &pack) {
    uint64_t workspace = (uint64_t)(uintptr_t)pack.workspaceBuffer;
    uint64_t bytes = pack.workspaceBufferSize + pack.intermediateBufferSize;
    Note("begin", workspace, bytes, operationName_, tensorDir_);
    for (const Tensor &t : pack.inTensors)
        Note("in", (uint64_t)(uintptr_t)t.deviceData, t.dataSize, operationName_, Shape(t));
    for (const Tensor &t : pack.outTensors)
        Note("out", (uint64_t)(uintptr_t)t.deviceData, t.dataSize, operationName_, Shape(t));
    if (IsSaveTensor() && Probe::IsSaveTensorBefore())
        StoreUtil::SaveVariantPack(pack, tensorDir_ + "/before");
    Status status = ExecuteImpl(pack);
    if (IsSaveTensor() && Probe::IsSaveTensorAfter())
        StoreUtil::SaveVariantPack(pack, tensorDir_ + "/after");
    executeCount_++;
    Note("end", workspace, bytes, operationName_, tensorDir_);
    return status;
}

Status Runner::ExecuteImpl(RunnerVariantPack &) {
    return 0;
}

OpsRunner::OpsRunner(const std::string &name, const std::vector<std::string> &kernels)
    : Runner(name), kernels_(kernels) {}

Status OpsRunner::ExecuteImpl(RunnerVariantPack &) {
    Mki::LaunchParam param;
    for (size_t i = 0; i < kernels_.size(); i++) {
        std::string dir = tensorDir_ + "/" + std::to_string(i) + "_" + kernels_[i];
        bool saves = Probe::IsTensorNeedSave(runnerIds_, operationName_) &&
                     Probe::IsExecuteCountInRange(executeCount_) &&
                     Probe::IsSaveTensorInSpecificDir(dir);
        rtFuncHandle function = nullptr;
        if (rtsFuncGetByName(nullptr, kernels_[i].c_str(), &function) != 0)
            return 1;
        Note("kernelbegin", 0, 0, kernels_[i], dir);
        if (saves && Probe::IsSaveTensorBefore())
            StoreUtil::SaveLaunchParam(nullptr, param, dir + "/before");
        if (rtLaunchKernelByFuncHandleV3(function, 1, nullptr, nullptr, nullptr) != 0)
            return 1;
        if (saves && Probe::IsSaveTensorAfter())
            StoreUtil::SaveLaunchParam(nullptr, param, dir + "/after");
        Note("kernelend", 0, 0, kernels_[i], dir);
    }
    return 0;
}

GraphRunner::GraphRunner(const std::string &name) : Runner(name) {}

void GraphRunner::Add(const std::string &operation, std::unique_ptr<Runner> runner) {
    runner->SetRunnerInfo(operation, {0, (int64_t)nodes_.size()});
    nodes_.emplace_back(operation, std::move(runner));
}

void GraphRunner::SetSaveTensorDir(const std::string &tensorDir) {
    tensorDir_ = tensorDir;
    for (size_t i = 0; i < nodes_.size(); i++)
        nodes_[i].second->SetSaveTensorDir(tensorDir + "/" + std::to_string(i) + "_" +
                                           nodes_[i].first);
}

Status GraphRunner::ExecuteImpl(RunnerVariantPack &) {
    for (auto &node : nodes_) {
        RunnerVariantPack pack;
        Status status = node.second->Execute(pack);
        if (status != 0)
            return status;
    }
    return 0;
}

Operation::Operation(const std::string &name, std::unique_ptr<Runner> runner)
    : name_(name), runner_(std::move(runner)) {}

void Operation::Setup() {
    runner_->SetRunnerInfo(name_, {0});
    if (Probe::IsSaveTensorDesc())
        runner_->SetSaveTensorDir("tensors/" + std::to_string(executeCount_) + "/0_" + name_);
}

Status Operation::Execute(RunnerVariantPack &pack) {
    executeCount_++;
    return runner_->Execute(pack);
}
} // namespace atb
