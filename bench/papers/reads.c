#define REQUEST_TYPE 0
#include "disk-guest.h"
