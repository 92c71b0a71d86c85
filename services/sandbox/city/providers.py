"""The simulated providers. Every name says, in Chinese too, that the provider is simulated."""

from services.sandbox.delivery import Provider

TAX = Provider("tax", "tax", "Simulated Tax Bureau 模拟税务局")
REGISTRY = Provider("registry", "market_regulator", "Simulated Market Regulator 模拟市场监督管理局")
INSURANCE = Provider(
    "insurance", "social_insurance", "Simulated Social Insurance Office 模拟社会保险中心"
)
IP_OFFICE = Provider("ip", "ip_office", "Simulated IP Office 模拟知识产权局")
SCIENCE = Provider("science", "science", "Simulated Science Commission 模拟科学技术委员会")
COURTS = Provider("courts", "court", "Simulated Courts 模拟法院")
LENDER_A = Provider("lender-a", "lender", "Simulated Lender A 模拟贷款机构甲")
LENDER_B = Provider("lender-b", "lender", "Simulated Lender B 模拟贷款机构乙")

PROVIDERS = (REGISTRY, TAX, INSURANCE, IP_OFFICE, SCIENCE, COURTS, LENDER_A, LENDER_B)
LENDERS = (LENDER_A, LENDER_B)
