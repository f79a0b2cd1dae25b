"""What `locust -f` is given: all kinds of customers. Which of them come is said on Locust's command line."""

from lab.load.monday import MondayCustomer, MondayProgram, MondayShopper
from lab.load.users import Buyers, CouponHunter, Program, Regular, Shopper, Waverer

__all__ = [
    "Buyers",
    "CouponHunter",
    "MondayCustomer",
    "MondayProgram",
    "MondayShopper",
    "Program",
    "Regular",
    "Shopper",
    "Waverer",
]
