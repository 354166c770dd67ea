// Types of weights and activations, as every launcher takes them.
#pragma once

enum QwenDtype { QWEN_FLOAT16 = 0, QWEN_BFLOAT16 = 1 };
