/*
 * atb.h - the interfaces of Ascend's library of transformer operators (ATB) that the stub provides and the target
 * calls.
 *
 * Written from the published headers of ATB, include/atb/types.h and svector.h, and from the names of its functions that
 * tools replace: atb::Probe, atb::StoreUtil, atb::Runner. Nothing of the sampler is included.
 */
#ifndef STUB_ATB_H
#define STUB_ATB_H

#include "ascend.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace Mki {
/* Of a kernel; what is in it does not matter here. */
class LaunchParam {
  public:
    int64_t reserved = 0;
};
} // namespace Mki

namespace atb {
using Status = int32_t;

constexpr size_t DEFAULT_SVECTOR_SIZE = 64;
constexpr size_t MAX_SVECTOR_SIZE = 256;

template <class T> class SVector {
  public:
    SVector() = default;
    SVector(const SVector &) = delete;
    SVector &operator=(const SVector &) = delete;
    ~SVector() { delete[] heap_; }
    void push_back(const T &value) {
        if (size_ == DEFAULT_SVECTOR_SIZE && heap_ == nullptr) {
            heap_ = new T[MAX_SVECTOR_SIZE];
            capacity_ = MAX_SVECTOR_SIZE;
            for (size_t i = 0; i < size_; i++)
                heap_[i] = storage_[i];
        }
        (heap_ != nullptr ? heap_ : storage_)[size_++] = value;
    }
    const T *begin() const { return heap_ != nullptr ? heap_ : storage_; }
    const T *end() const { return begin() + size_; }

  private:
    size_t capacity_ = 0;
    size_t size_ = 0;
    T storage_[DEFAULT_SVECTOR_SIZE + 1];
    T *heap_ = nullptr;
};

constexpr uint32_t MAX_DIM = 8;

struct Dims {
    int64_t dims[MAX_DIM] = {};
    uint64_t dimNum = 0;
};

enum aclDataType { ACL_FLOAT = 0, ACL_FLOAT16 = 1, ACL_BF16 = 27 };
enum aclFormat { ACL_FORMAT_ND = 2, ACL_FORMAT_FRACTAL_NZ = 29 };

struct TensorDesc {
    aclDataType dtype = ACL_FLOAT;
    aclFormat format = ACL_FORMAT_ND;
    Dims shape;
};

struct Tensor {
    TensorDesc desc;
    void *deviceData = nullptr;
    void *hostData = nullptr;
    uint64_t dataSize = 0;
};

class ContextBase;

struct RunnerVariantPack {
    SVector<Tensor> inTensors;
    SVector<Tensor> outTensors;
    SVector<bool> isInTensorCanFree;
    SVector<bool> isOutTensorNeedMalloc;
    uint8_t *hostTilingBuffer = nullptr;
    uint8_t *tilingBuffer = nullptr;
    uint64_t tilingBufferSize = 0;
    uint8_t *workspaceBuffer = nullptr;
    uint64_t workspaceBufferSize = 0;
    uint8_t *intermediateBuffer = nullptr;
    uint64_t intermediateBufferSize = 0;
    uint8_t *argsDeviceBuffer = nullptr;
    uint8_t *argsHostBuffer = nullptr;
    ContextBase *context = nullptr;
};

/* Made for tools: the library asks it whether somebody wants tensors saved. */
class Probe {
  public:
    static bool IsTensorNeedSave(const std::vector<int64_t> &ids, const std::string &opType);
    static bool IsSaveTensorDesc();
    static bool IsExecuteCountInRange(const uint64_t executeCount);
    static bool IsSaveTensorBefore();
    static bool IsSaveTensorAfter();
    static bool IsSaveTensorInSpecificDir(const std::string &tensorDir);
};

/* Saves tensors: the stub writes a line of the ledger, "saved", for each call. */
class StoreUtil {
  public:
    static void SaveLaunchParam(aclrtStream stream, const Mki::LaunchParam &launchParam,
                                const std::string &dirPath);
    static void SaveVariantPack(const RunnerVariantPack &pack, const std::string &dirPath);
};

class Runner {
  public:
    explicit Runner(const std::string &name);
    virtual ~Runner();
    Status Execute(RunnerVariantPack &runnerVariantPack);
    void SetRunnerInfo(const std::string &operationName, const std::vector<int64_t> &operationIds);
    virtual void SetSaveTensorDir(const std::string &tensorDir);

  protected:
    bool IsSaveTensor() const;
    std::vector<int64_t> runnerIds_;
    size_t executeCount_ = 0;
    std::string tensorDir_;
    std::string operationName_;

  private:
    virtual Status ExecuteImpl(RunnerVariantPack &runnerVariantPack);
    std::string name_;
    bool saveTensorFlag_ = false;
};

/* Kernels of one operator, by their names. */
class OpsRunner : public Runner {
  public:
    OpsRunner(const std::string &name, const std::vector<std::string> &kernels);

  private:
    Status ExecuteImpl(RunnerVariantPack &runnerVariantPack) override;
    std::vector<std::string> kernels_;
};

/* Operators in an operator. */
class GraphRunner : public Runner {
  public:
    explicit GraphRunner(const std::string &name);
    void Add(const std::string &operation, std::unique_ptr<Runner> runner);
    void SetSaveTensorDir(const std::string &tensorDir) override;

  private:
    Status ExecuteImpl(RunnerVariantPack &runnerVariantPack) override;
    std::vector<std::pair<std::string, std::unique_ptr<Runner>>> nodes_;
};

/* What users call: sets a runner up and runs it. */
class Operation {
  public:
    Operation(const std::string &name, std::unique_ptr<Runner> runner);
    void Setup();
    Status Execute(RunnerVariantPack &pack);

  private:
    std::string name_;
    std::unique_ptr<Runner> runner_;
    uint64_t executeCount_ = 0;
};
} // namespace atb

#endif
