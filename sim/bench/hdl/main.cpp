// SPDX-License-Identifier: BSD-2-Clause
// Gives the bench its clock until it says that it is finished.
#include <memory>
#include "Vbench.h"
#include "verilated.h"

double sc_time_stamp() { return 0; }

int main(int argc, char** argv) {
    const std::unique_ptr<VerilatedContext> context{new VerilatedContext};
    context->commandArgs(argc, argv);
    const std::unique_ptr<Vbench> top{new Vbench{context.get()}};
    while (!context->gotFinish()) {
        top->clk = !top->clk;
        top->eval();
        context->timeInc(1);
    }
    top->final();
    return 0;
}
